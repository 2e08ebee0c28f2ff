"""Tiny random checkpoints of every family, saved by transformers with a byte tokenizer, and what it says of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from random_checkpoint import byte_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DeepseekV3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from moedge.runtime import Engine
from moedge.runtime.kernel_probe import OVERRIDE


def deepseek_v3(**changes: Any) -> DeepseekV3Config:
    """A small DeepSeek-V3: 3 layers, the first dense, 8 experts in one group."""
    values = {
        "vocab_size": 211,
        "hidden_size": 64,
        "intermediate_size": 96,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_shared_experts": 1,
        "n_routed_experts": 8,
        "routed_scaling_factor": 2.5,
        "kv_lora_rank": 32,
        "q_lora_rank": 48,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "qk_nope_head_dim": 16,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 3,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "initializer_range": 0.1,
    }
    return DeepseekV3Config(**(values | changes))


def qwen3_moe(**changes: Any) -> Qwen3MoeConfig:
    """A small Qwen3-MoE: 3 layers, 8 experts, grouped-query attention with q/k norm."""
    values = {
        "vocab_size": 211,
        "hidden_size": 64,
        "intermediate_size": 96,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "initializer_range": 0.1,
    }
    return Qwen3MoeConfig(**(values | changes))


def save_checkpoint(config: PreTrainedConfig, folder: Path, seed: int, shard: str = "5GB") -> PreTrainedModel:
    """A random model of that configuration, in fp32, saved with a tokenizer; norms and biases are not 1 and 0."""
    torch.manual_seed(seed)
    kind = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    model = kind.from_config(config, dtype=torch.float32, experts_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name:
                tensor.add_(torch.randn_like(tensor) * 0.1)
            elif name.endswith("bias"):  # correction_bias, expert_bias, down_proj_bias and plain biases
                tensor.normal_(0, 0.05)
            elif name.endswith(("gate.weight", "router.weight")):
                tensor.normal_(0, 0.5)  # decisive routing
            elif name.endswith("sinks"):
                tensor.normal_(0, 1)
    model.save_pretrained(folder, max_shard_size=shard)
    byte_tokenizer(folder / "tokenizer.json")
    generation = {"eos_token_id": config.eos_token_id, "bos_token_id": config.bos_token_id}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return model


def load_checkpoint(folder: Path) -> PreTrainedModel:
    """A saved model as transformers reads it, computing in fp32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager").eval()


def reference_logits(model: PreTrainedModel, ids: np.ndarray) -> np.ndarray:
    """transformers' logits [n, vocab_size] of one sequence, in fp32."""
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None]).logits[0].float().numpy()


def reference_greedy(model: PreTrainedModel, ids: np.ndarray, tokens: list[int], banned: int) -> list[int]:
    """What transformers takes after the prompt and each of `tokens`, never the `banned` one, here the end of text.

    Equal to `tokens` if and only if they are its greedy continuation; one run instead of one a token.
    """
    logits = reference_logits(model, np.array([*ids, *tokens[:-1]]))[len(ids) - 1 :]
    logits[:, banned] = -np.inf
    return logits.argmax(-1).tolist()


def with_exact_kernels(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A fused bundle, loaded so that every kernel keeps fp32 activations; it is changed on disk for that."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    onnx.save(model, bundle / "model.onnx")
    monkeypatch.setenv(OVERRIDE, "0")
    return Engine.load(bundle, check_hashes=False, allow_slow=True)
