"""A shape as a GGUF for llama.cpp, in bf16 or fp32, written a tensor at a time; names and facts are gguf_names.py's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from peers.gguf_names import ARCHITECTURES, Architecture, Change, fact
from peers.shapes import PeerShape
from peers.weights import Weight, numbers, weights

LAYER = re.compile(r"model\.layers\.(\d+)\.(.*)")
# llama.cpp computes with these in fp32, whatever the file's type.
# Facts that llama.cpp wants as floats, whatever config.json has.
NUMBERS = (
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "attention.scale", "embedding_scale", "residual_scale",
    "logit_scale", "expert_weights_scale", "rope.scaling.factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)  # fmt: skip
EXACT = ("norm", "ffn_gate_inp", "exp_probs_b", "bias", "sinks", "shortconv.conv")


def write_gguf(path: Path, shape: PeerShape, exact: bool = False, seed: int = 0) -> None:
    """Write the model in bf16, or in fp32 where `exact`. ValueError for a tensor without a name in GGUF."""
    architecture = ARCHITECTURES[shape.config["model_type"]]
    writer = GGUFWriter(path, architecture.name)
    _write_facts(writer, shape, architecture)
    listed = list(weights(shape))
    for weight in listed:
        for name, change in placed(architecture, weight):
            size, kind = changed_shape(weight, change, shape), _kind(name, exact)
            count = int(np.prod(size)) * (4 if kind == GGMLQuantizationType.F32 else 2)
            dtype = np.dtype(np.float32 if kind == GGMLQuantizationType.F32 else np.uint16)
            writer.add_tensor_info(name, size, dtype, count, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for weight in listed:
        values = numbers(weight, seed)
        for name, change in placed(architecture, weight):
            tensor = np.ascontiguousarray(changed(values, change, shape))
            exactly = _kind(name, exact) == GGMLQuantizationType.F32
            writer.write_tensor_data(tensor.astype(np.float32) if exactly else tensor.view(np.uint16))
    writer.close()


def placed(architecture: Architecture, weight: Weight) -> Iterator[tuple[str, Change]]:
    """The tensors of GGUF that one of transformers' becomes; ValueError if nobody knows."""
    found = LAYER.fullmatch(weight.name)
    prefix, end = (f"blk.{found[1]}.", found[2]) if found else ("", weight.name)
    known = [key for key in architecture.tensors if end == key or end.endswith(f".{key}")]
    if not known:
        raise ValueError(f"{weight.name} has no name in GGUF's {architecture.name}")
    for name, change in architecture.tensors[max(known, key=len)]:
        yield prefix + name, change


def changed_shape(weight: Weight, change: Change, shape: PeerShape) -> tuple[int, ...]:
    """The sizes of `changed`, without any numbers."""
    empty = np.broadcast_to(np.uint16(0), weight.shape)
    return tuple(changed(empty, change, shape).shape)


def changed(values: NDArray[Any], change: Change, shape: PeerShape) -> NDArray[Any]:
    """A tensor as GGUF wants it, a view where that is possible."""
    config = shape.config
    if change in ("pairs_q", "pairs_k"):
        heads = config["num_attention_heads" if change == "pairs_q" else "num_key_value_heads"]
        return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    if change in ("keys", "values"):
        nope = config["qk_nope_head_dim"]
        by_head = values.reshape(config["num_attention_heads"], -1, config["kv_lora_rank"])
        return by_head[:, :nope].swapaxes(1, 2) if change == "keys" else by_head[:, nope:]
    half = values.shape[1] // 2 if values.ndim > 1 else 0
    views = {
        "as_it_is": lambda: values,
        "first_half": lambda: values[:, :half],
        "second_half": lambda: values[:, half:],
        "even_columns": lambda: values[:, :, ::2].swapaxes(1, 2),
        "odd_columns": lambda: values[:, :, 1::2].swapaxes(1, 2),
        "turned": lambda: values.swapaxes(1, 2),
        "even": lambda: values[:, ::2],
        "odd": lambda: values[:, 1::2],
        "squeezed": lambda: values[:, 0],
    }
    return views[change]()


def _kind(name: str, exact: bool) -> GGMLQuantizationType:
    whole = exact or any(part in name for part in EXACT)
    return GGMLQuantizationType.F32 if whole else GGMLQuantizationType.BF16


def _write_facts(writer: GGUFWriter, shape: PeerShape, architecture: Architecture) -> None:
    config = shape.config
    for key, said in architecture.facts.items():
        value = fact(config, said)
        name = f"{architecture.name}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif (
            isinstance(value, int) and "scal" not in key and "freq" not in key
        ) or key == "rope.scaling.original_context_length":
            writer.add_uint32(name, value)
        else:
            writer.add_float32(name, float(value))
    if "layer_types" in config and architecture.name == "lfm2moe":  # convolutions are layers without keys
        heads = [config["num_key_value_heads"] if kind != "conv" else 0 for kind in config["layer_types"]]
        writer.add_array(f"{architecture.name}.attention.head_count_kv", heads)
    writer.add_string("tokenizer.ggml.model", "none")
