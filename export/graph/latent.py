"""Multi-head latent attention, with the up-projections absorbed.

Keys and values of all heads are linear in one latent row c (DeepSeek-V2, arXiv:2405.04434), so
    q·k = (q W_uk)·c,    sum p v = (sum p c) W_uv,
and the cache holds only c beside the rotated part of the key: kv_lora_rank + qk_rope_head_dim numbers a token.
"""

from functools import cache

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_planes
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.arithmetic import attend, give_present, rows_port
from moedge.export.graph.attention import open_output, project_out
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import Positions
from moedge.export.graph.storing import read_finite
from moedge.export.model.config import MultiHeadLatent
from moedge.export.model.layouts import find_absorbed
from moedge.quant.blocks import F32
from moedge.runtime.manifest import ATTENTION


def latent_attention(block: Block, config: MultiHeadLatent, x: ir.Value, where: Positions) -> ir.Value:
    """Self-attention over normed hidden states x [s, hidden_size]."""
    b, low, heads = block.builder, block.low, config.num_heads
    nope, rotary, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    hidden, name = block.model.hidden_size, block.place(block.model.names.attention)
    with b.scope(name):
        down = _open_halved(block, config, f"{name}.kv_a_proj_with_mqa", hidden, 1, rank)
        if config.q_lora_rank is None:
            first, width = _open_halved(block, config, f"{name}.q_proj", hidden, heads, nope), heads * (nope + rotary)
        else:
            first, width = block.matrix(f"{name}.q_a_proj", config.q_lora_rank, hidden), config.q_lora_rank
        first, down = (block.read_norm_of(block.model.names.input_norm, matrix) for matrix in (first, down))
        joined = low.linear("q_kv_a_proj", x, stack([first, down]), ATTENTION)
        if config.bias:
            joined = _add_bias(block, config, joined, name)
        q, latent, k_rot = b.ops("Split", joined, b.ints(width, rank, rotary), attributes={"axis": -1}, outputs=3)
        if config.q_lora_rank is not None:
            norm = f"{name}.q_a_layernorm"
            q_b = _open_halved(block, config, f"{name}.q_b_proj", width, heads, nope)
            q = block.rms_norm(norm, q, width, config.latent_norm_eps)
            q = low.linear("q_b_proj", q, block.channels.read(norm, q_b), ATTENTION)
        q = b.op("Reshape", q, b.ints(0, heads, nope + rotary))
        q_nope, q_rot = b.ops("Split", q, b.ints(nope, rotary), attributes={"axis": -1}, outputs=2)
        up_keys, up_values = _absorb(block, config, name)
        q_nope = b.op("MatMul", b.op("Transpose", q_nope, attributes={"perm": [1, 0, 2]}), up_keys)  # [heads, s, rank]
        q_rot = b.op("Transpose", low.rope(q_rot, heads, config.rope, where), attributes={"perm": [1, 0, 2]})
        q = b.op("Concat", q_nope, q_rot, attributes={"axis": -1})  # [heads, s, latent_width]
        q = b.op("Mul", q, b.constant(np.array(config.scale, np.float32)))
        q = b.op("Reshape", q, b.ints(1, -1, config.latent_width))  # [1, heads * s, latent_width]
        k_rot = low.rope(b.op("Reshape", k_rot, b.ints(0, 1, rotary)), 1, config.rope, where)
        latent = block.rms_norm(f"{name}.kv_a_layernorm", latent, rank, config.latent_norm_eps)
        row = b.op("Concat", latent, b.op("Reshape", k_rot, b.ints(0, rotary)), attributes={"axis": -1})
        past, tensor = rows_port(block.layer, "latent", config.latent_width)
        rows = (past, give_present(b, low.cache, past, tensor, row))
        out = attend(b, q, rows, rows, where, where.mask(config))  # [1, heads * s, latent_width]
        mixed = b.op("Slice", out, b.ints(0), b.ints(rank), b.ints(-1))
        shape = b.op("Concat", b.ints(heads), where.new_length, b.ints(rank), attributes={"axis": 0})
        values = b.op("MatMul", b.op("Reshape", mixed, shape), up_values)  # [heads, s, v]
        by_token = b.op("Transpose", values, attributes={"perm": [1, 0, 2]})
        out = b.op("Reshape", by_token, b.ints(0, heads * config.v_head_dim))
        o_proj = block.channels.read(_values(name), open_output(block, name, heads * config.v_head_dim))
        return project_out(block, name, out, o_proj, config.bias)


def _values(name: str) -> str:
    """What writes the values, of all heads, that an attention's output projection reads."""
    return f"{name}.kv_b_proj.values"


def _absorb(block: Block, config: MultiHeadLatent, name: str) -> tuple[ir.Value, ir.Value]:
    """W_uk [heads, nope, rank] and W_uv [heads, rank, v] out of kv_b_proj [heads * (nope + v), rank], kept in fp32."""
    nope, rank = config.qk_nope_head_dim, config.kv_lora_rank
    heads, wide = config.num_heads, config.v_head_dim
    full = f"{name}.kv_b_proj"
    if apart := find_absorbed(block.checkpoint, name):
        return _absorb_apart(block, config, name, *apart)
    matrix = block.matrix(full, heads * (nope + wide), rank)

    @cache
    def parts() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight = read_finite(matrix, 0, matrix.shape[0]).reshape(heads, nope + wide, rank)
        return weight[:, :nope], _divide(block, name, weight[:, nope:]).transpose(0, 2, 1)

    read = block.builder.read_matrix
    return (
        read(f"{full}.keys", (heads, nope, rank), lambda: parts()[0], ATTENTION, (matrix,)),
        read(f"{full}.values", (heads, rank, wide), lambda: parts()[1], ATTENTION),
    )


def _divide(block: Block, name: str, values: F32) -> F32:
    """W_uv [heads, v, rank] whose rows are divided as the output projection's columns are multiplied."""
    by_rank = values.reshape(-1, values.shape[-1]).T  # [rank, heads * v]
    return block.channels.divide(_values(name), by_rank).T.reshape(values.shape)


def _absorb_apart(
    block: Block, config: MultiHeadLatent, name: str, keys: str, values: str
) -> tuple[ir.Value, ir.Value]:
    """The same out of tensors [heads, rank, nope] and [heads, v, rank], under the same names in the bundle."""
    full = f"{name}.kv_b_proj"
    nope, rank = config.qk_nope_head_dim, config.kv_lora_rank
    heads, wide, checkpoint = config.num_heads, config.v_head_dim, block.checkpoint
    up_keys = stack(open_planes(checkpoint, keys, heads, (nope, rank), True))
    up_values = stack(open_planes(checkpoint, values, heads, (wide, rank)))

    def read_values() -> NDArray[np.float32]:
        weight = read_finite(up_values, 0, heads * wide).reshape(heads, wide, rank)
        return _divide(block, name, weight).transpose(0, 2, 1)

    def read_keys() -> NDArray[np.float32]:
        return read_finite(up_keys, 0, heads * nope).reshape(heads, nope, rank)

    read = block.builder.read_matrix
    return (
        read(f"{full}.keys", (heads, nope, rank), read_keys, ATTENTION, (up_keys,)),
        read(f"{full}.values", (heads, rank, wide), read_values, ATTENTION, (up_values,)),
    )


def _open_halved(block: Block, config: MultiHeadLatent, name: str, columns: int, heads: int, plain: int) -> Matrix:
    """A projection to heads of `plain` and rotary rows, these paired as halves, whatever the checkpoint pairs."""
    matrix = block.matrix(name, heads * (plain + config.qk_rope_head_dim), columns)
    order = halves_order(heads, plain, config.qk_rope_head_dim)
    return Reordered(matrix, order) if config.rope.interleaved else matrix


def _add_bias(block: Block, config: MultiHeadLatent, joined: ir.Value, name: str) -> ir.Value:
    """Biases of the down-projections, in the order of the rows; without q_lora_rank the query has none."""
    heads, nope, rotary = config.num_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    down = block.parameter(f"{name}.kv_a_proj_with_mqa.bias", config.latent_width)
    if config.rope.interleaved:
        down = down[halves_order(1, config.kv_lora_rank, rotary)]
    if config.q_lora_rank is None:
        first = np.zeros(heads * (nope + rotary), np.float32)
    else:
        first = block.parameter(f"{name}.q_a_proj.bias", config.q_lora_rank)
    b = block.builder
    return b.op("Add", joined, b.vector(f"{name}.q_kv_a_proj.bias", np.concatenate([first, down]), ATTENTION))
