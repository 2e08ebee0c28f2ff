"""A mixture as the checkpoint folder that `moedge export` reads: a `mixtral` in fp32.

Mixtral's router is a softmax over the chosen experts' logits, as in forward.py, and it has neither biases nor norms of
query and key: llama.cpp holds the same function as its architecture `llama` with experts (gguf_file.py).
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from fidelity.model import Array, Model

ATTENTION = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj"}
EXPERT = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}
CONTEXT = 8192


def write_checkpoint(model: Model, tokenizer: Tokenizer, folder: Path, chat_template: str | None = None) -> None:
    """config.json, weights and tokenizer; ValueError if the model has no experts."""
    shape = model.shape
    if not shape.experts:
        raise ValueError("a dense model is no mixtral: split it first")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(published(model), folder / "model.safetensors")
    config = {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.chosen,
        "vocab_size": shape.vocab,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    if chat_template is not None:
        spoken = {"chat_template": chat_template, "add_bos_token": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(spoken, indent=1), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def published(model: Model) -> dict[str, Array]:
    """The tensors by the names that Mixtral's makers gave them, an expert a tensor."""
    tensors = {
        "model.embed_tokens.weight": model.tensors["token_embd.weight"],
        "model.norm.weight": model.tensors["output_norm.weight"],
    }
    for index in range(model.shape.layers):
        layer = f"model.layers.{index}"
        tensors[f"{layer}.input_layernorm.weight"] = model.layer(index, "attn_norm")
        tensors[f"{layer}.post_attention_layernorm.weight"] = model.layer(index, "ffn_norm")
        tensors[f"{layer}.block_sparse_moe.gate.weight"] = model.layer(index, "ffn_gate_inp")
        for part, name in ATTENTION.items():
            tensors[f"{layer}.self_attn.{name}.weight"] = model.layer(index, part)
        for part, name in EXPERT.items():
            for expert, weights in enumerate(model.layer(index, part)):
                tensors[f"{layer}.block_sparse_moe.experts.{expert}.{name}.weight"] = weights
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
