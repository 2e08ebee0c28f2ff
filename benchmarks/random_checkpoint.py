"""Checkpoints of random weights at real shapes, written a layer at a time: for timing and memory, never for quality.

Weights are independent random numbers at a trained model's scale, so that routing spreads as it does in one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


@dataclass(frozen=True)
class Shape:
    """A Qwen3-MoE's sizes, spelt as in its config.json."""

    hidden_size: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_tok: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int = 40960


def write_random_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Write a bf16 checkpoint, a shard a layer, with a byte tokenizer; holds one layer in memory."""
    folder.mkdir(parents=True)
    rest = {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "hidden_act": "silu",
        "dtype": "bfloat16",
    }
    rest |= {"intermediate_size": 4 * shape.hidden_size, "norm_topk_prob": True, "decoder_sparse_step": 1}
    rest |= {
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(asdict(shape) | rest, indent=1))
    byte_tokenizer(folder / "tokenizer.json")
    rng, index = np.random.default_rng(seed), {}

    def random(*size: int, scale: float = 0.02) -> NDArray[np.generic]:
        return (rng.standard_normal(size, dtype=np.float32) * scale).astype(ml_dtypes.bfloat16)

    for layer in range(shape.num_hidden_layers + 1):
        if layer < shape.num_hidden_layers:
            tensors = {f"model.layers.{layer}.{n}.weight": random(*s) for n, s in _layer(shape).items()}
            tensors |= {n: np.ones_like(t) for n, t in tensors.items() if "norm" in n}
            router = f"model.layers.{layer}.mlp.gate.weight"
            tensors[router] = random(shape.num_experts, shape.hidden_size, scale=shape.hidden_size**-0.5)
        else:
            table = (shape.vocab_size, shape.hidden_size)
            tensors = {"model.norm.weight": np.ones(shape.hidden_size, ml_dtypes.bfloat16)}
            tensors |= {f"{n}.weight": random(*table) for n in ("model.embed_tokens", "lm_head")}
        shard = f"model-{layer:05}.safetensors"
        save_file(tensors, folder / shard)
        index |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def _layer(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden, width, dim = shape.hidden_size, shape.moe_intermediate_size, shape.head_dim
    queries, keys = shape.num_attention_heads * dim, shape.num_key_value_heads * dim
    names: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (dim,),
        "self_attn.k_norm": (dim,),
    }
    for expert in range(shape.num_experts):
        prefix = f"mlp.experts.{expert}"
        names |= {f"{prefix}.gate_proj": (width, hidden), f"{prefix}.up_proj": (width, hidden)}
        names[f"{prefix}.down_proj"] = (hidden, width)
    return names


def byte_tokenizer(path: Path) -> None:
    """A tokenizer with a token a byte after [BOS] and [EOS]."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["[BOS]", "[EOS]", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["[BOS]", "[EOS]"])
    tokenizer.save(str(path))
