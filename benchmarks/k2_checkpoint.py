"""A two-layer checkpoint at Kimi K2 Thinking's real shapes, filled with random codes: for timing and memory, never for
quality. Layer 0 is dense, layer 1 has the routed experts in compressed-tensors int4, groups of 32; the rest is bf16.

It is written a chunk at a time, in shards laid out as the safetensors library lays them out, so that a machine of any
memory can make one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from random_checkpoint import byte_tokenizer

from moedge.export.checkpoint.folder import INDEX_NAME

CHUNK_BYTES = 16 << 20
# The library writes tensors of wide dtypes first, and by name among equals.
_ORDER = ("I64", "I32", "BF16")
_WIDTH = {"I64": 8, "I32": 4, "BF16": 2}
# What of 16 random bits is kept, and what is set, for bf16 of a trained model's magnitude; scales are positive.
_WEIGHT_BITS = (0x81FF, 0x3C00)  # ±2^-7 to 2^-4
_SCALE_BITS = (0x00FF, 0x3A00)  # 2^-11 to 2^-9


@dataclass(frozen=True)
class K2Shape:
    """Kimi K2's sizes, spelt as in its config.json (arXiv:2507.20534)."""

    hidden_size: int = 7168
    intermediate_size: int = 18432
    moe_intermediate_size: int = 2048
    n_routed_experts: int = 384
    num_experts_per_tok: int = 8
    num_attention_heads: int = 64
    q_lora_rank: int = 1536
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    vocab_size: int = 163840
    num_hidden_layers: int = 2
    first_k_dense_replace: int = 1
    n_shared_experts: int = 1

    @classmethod
    def tiny(cls) -> "K2Shape":
        """Everything small, for a test."""
        return cls(
            hidden_size=128,
            intermediate_size=256,
            moe_intermediate_size=64,
            n_routed_experts=8,
            num_attention_heads=4,
            q_lora_rank=64,
            kv_lora_rank=32,
            qk_nope_head_dim=16,
            qk_rope_head_dim=8,
            v_head_dim=16,
            vocab_size=512,
        )


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    holds: tuple[int, ...] = ()  # the values of a `weight_shape`; everything else is random

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * _WIDTH[self.dtype]


def checkpoint_bytes(shape: K2Shape) -> int:
    """How large the shards will be together, headers aside."""
    return sum(tensor.nbytes for tensor in _tensors(shape))


def write_k2_checkpoint(folder: Path, shape: K2Shape, shard_bytes: int = 5 << 30, seed: int = 0) -> None:
    """Write it; every shard but the last holds about `shard_bytes`."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=1))
    byte_tokenizer(folder / "tokenizer.json")
    shards: list[list[_Tensor]] = []
    room = 0
    for tensor in _tensors(shape):
        if room <= 0:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.nbytes
    rng, weight_map = np.random.Generator(np.random.SFC64(seed)), {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):06}.safetensors"
        _write_shard(folder / name, sorted(tensors, key=lambda t: (_ORDER.index(t.dtype), t.name)), rng)
        weight_map |= {tensor.name: name for tensor in tensors}
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _config(shape: K2Shape) -> dict[str, object]:
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    yarn = {"type": "yarn", "factor": 64.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0}
    return {
        "model_type": "kimi_k2",
        "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_act": "silu",
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.827,
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 0,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "rope_scaling": yarn | {"beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0},
        "max_position_embeddings": 262144,
        "num_key_value_heads": shape.num_attention_heads,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        },
    } | {name: getattr(shape, name) for name in K2Shape.__dataclass_fields__}


def _tensors(shape: K2Shape) -> Iterator[_Tensor]:
    """Every tensor, in the order of the model."""
    hidden, table = shape.hidden_size, (shape.vocab_size, shape.hidden_size)
    yield _Tensor("model.embed_tokens.weight", "BF16", table)
    for layer in range(shape.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield _Tensor(f"{prefix}.{norm}.weight", "BF16", (hidden,))
        yield from _attention(shape, f"{prefix}.self_attn")
        if layer < shape.first_k_dense_replace:
            yield from _mlp(f"{prefix}.mlp", hidden, shape.intermediate_size)
            continue
        yield _Tensor(f"{prefix}.mlp.gate.weight", "BF16", (shape.n_routed_experts, hidden))
        yield _Tensor(f"{prefix}.mlp.gate.e_score_correction_bias", "BF16", (shape.n_routed_experts,))
        width = shape.moe_intermediate_size
        yield from _mlp(f"{prefix}.mlp.shared_experts", hidden, width * shape.n_shared_experts)
        for expert in range(shape.n_routed_experts):
            for tensor in _mlp(f"{prefix}.mlp.experts.{expert}", hidden, width):
                rows, columns = tensor.shape
                yield _Tensor(f"{tensor.name}_packed", "I32", (rows, columns // 8))
                yield _Tensor(f"{tensor.name}_scale", "BF16", (rows, columns // 32))
                yield _Tensor(f"{tensor.name}_shape", "I64", (2,), tensor.shape)
    yield _Tensor("model.norm.weight", "BF16", (hidden,))
    yield _Tensor("lm_head.weight", "BF16", table)


def _attention(shape: K2Shape, prefix: str) -> Iterator[_Tensor]:
    heads, hidden, rank = shape.num_attention_heads, shape.hidden_size, shape.kv_lora_rank
    query, value = shape.qk_nope_head_dim + shape.qk_rope_head_dim, shape.v_head_dim
    sizes: dict[str, tuple[int, ...]] = {
        "q_a_proj": (shape.q_lora_rank, hidden),
        "q_a_layernorm": (shape.q_lora_rank,),
        "q_b_proj": (heads * query, shape.q_lora_rank),
        "kv_a_proj_with_mqa": (rank + shape.qk_rope_head_dim, hidden),
        "kv_a_layernorm": (rank,),
        "kv_b_proj": (heads * (shape.qk_nope_head_dim + value), rank),
        "o_proj": (hidden, heads * value),
    }
    for name, size in sizes.items():
        yield _Tensor(f"{prefix}.{name}.weight", "BF16", size)


def _mlp(prefix: str, hidden: int, width: int) -> Iterator[_Tensor]:
    for name, size in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
        yield _Tensor(f"{prefix}.{name}_proj.weight", "BF16", size)


def _write_shard(path: Path, tensors: list[_Tensor], rng: np.random.Generator) -> None:
    """A safetensors file: length of the header, header, the tensors' bytes one after the other."""
    header, end = {}, 0
    for tensor in tensors:
        offsets = [end, end := end + tensor.nbytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            for chunk in _data(tensor, rng):
                file.write(chunk)


def _data(tensor: _Tensor, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a tensor."""
    if tensor.holds:
        yield np.array(tensor.holds, "<i8").view(np.uint8)
        return
    keep, put = _SCALE_BITS if tensor.name.endswith("_scale") else _WEIGHT_BITS
    for start in range(0, tensor.nbytes, CHUNK_BYTES):
        size = min(CHUNK_BYTES, tensor.nbytes - start)
        words = rng.integers(0, 1 << 64, -(-size // 8), dtype=np.uint64)
        if tensor.dtype == "BF16":
            four_times = 0x0001_0001_0001_0001
            words = words & np.uint64(keep * four_times) | np.uint64(put * four_times)
        yield words.view(np.uint8)[:size]
