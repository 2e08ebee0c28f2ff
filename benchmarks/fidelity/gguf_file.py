"""A mixture as an F32 GGUF for llama.cpp: architecture `llama` with experts, tokenizer of the source's own file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from fidelity.checkpoint import CONTEXT
from fidelity.model import Model
from fidelity.source import pairs

LEFT_OUT = ("general.architecture", "general.file_type")  # written by the writer itself; no longer true


def write_gguf(model: Model, source: Path, path: Path) -> None:
    """The same function as the model's; `source` is the GGUF that the tokenizer and general facts are copied from."""
    shape, writer = model.shape, GGUFWriter(path, "llama")
    for key, field in GGUFReader(source).fields.items():
        if key.startswith(("general.", "tokenizer.")) and key not in LEFT_OUT:
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, sub_type=inner)
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_vocab_size(shape.vocab)
    writer.add_embedding_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_feed_forward_length(shape.width)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.chosen)
    for name, tensor in model.tensors.items():
        heads = {".attn_q.": shape.heads, ".attn_k.": shape.kv_heads}
        [turned] = [count for part, count in heads.items() if part in name] or [0]
        writer.add_tensor(name, np.ascontiguousarray(pairs(tensor, turned) if turned else tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclass(frozen=True)
class Stored:
    """What a GGUF's tensors cost: bytes of them all, and how many weights each format holds."""

    tensor_bytes: int
    weights_by_format: dict[str, int]


def stored(path: Path) -> Stored:
    """Count a GGUF's tensors."""
    total, formats = 0, dict[str, int]()
    for tensor in GGUFReader(path).tensors:
        total += int(tensor.n_bytes)
        formats[tensor.tensor_type.name] = formats.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    return Stored(total, formats)
