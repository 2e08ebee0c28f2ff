"""Grouped-query attention of a layer: its projections and what they read; what lies between is the lowering's."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.block import Block, Order
from moedge.export.graph.lowering import Heads, Positions, Vector
from moedge.export.model.config import GroupedQuery
from moedge.runtime.manifest import ATTENTION


def grouped_query_attention(block: Block, config: GroupedQuery, x: ir.Value, where: Positions) -> ir.Value:
    """Self-attention over normed hidden states x [s, hidden_size]."""
    b, dim, name = block.builder, config.head_dim, block.place(block.model.names.attention)
    heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    with b.scope(name):
        parts = {f"{name}.{p}_proj": n * dim for p, n in zip("qkv", heads, strict=True)}
        read = [block.matrix(part, rows, block.model.hidden_size) for part, rows in parts.items()]
        matrices = [block.read_norm_of(block.model.names.input_norm, matrix) for matrix in read]
        v_proj = f"{name}.v_proj"
        matrices[2] = block.channels.write(v_proj, matrices[2])
        orders: list[Order] = [None, None, None]
        if config.rope.interleaved:
            orders[:2] = (_pair_halves(n, config) for n in heads[:2])
        weights = [m if order is None else Reordered(m, order) for m, order in zip(matrices, orders, strict=True)]
        bias = block.bias("qkv_proj", parts, ATTENTION, orders) if config.bias else None
        joined = block.low.linear("qkv_proj", x, stack(weights), ATTENTION, bias)
        out = block.low.grouped_query(block.layer, _read_heads(block, config, name, joined), config, where)
        o_proj = open_output(block, name, config.num_heads * dim)
        if config.clip is None:  # a clipped value has the size that it has
            o_proj = block.channels.read(v_proj, o_proj, config.heads_a_key, dim)
        return project_out(block, name, out, o_proj, config.output_bias)


def open_output(block: Block, name: str, width: int) -> Matrix:
    """The matrix [hidden_size, width] of an attention's output projection."""
    return block.matrix(f"{name}.{block.model.names.output}", block.model.hidden_size, width)


def project_out(block: Block, name: str, x: ir.Value, matrix: Matrix, bias: bool) -> ir.Value:
    """The heads' results x [s, width] back to [s, hidden_size]."""
    part = block.model.names.output
    added = block.bias(part, {f"{name}.{part}": block.model.hidden_size}, ATTENTION) if bias else None
    return block.low.linear(part, x, matrix, ATTENTION, added)


def _pair_halves(heads: int, config: GroupedQuery) -> NDArray[np.int64]:
    """The order of rows that turns neighbouring rotary pairs into halves."""
    if config.rope.dim != config.head_dim:
        raise AssertionError("no family rotates neighbours in a part of a head")
    return halves_order(heads, 0, config.rope.dim)


def _read_heads(block: Block, config: GroupedQuery, name: str, joined: ir.Value) -> Heads:
    """The joint product with what is still to be done to it."""
    names, norms, sinks = block.model.names, None, None
    if config.qk_norm != "none":
        q_heads, k_heads = (1, 1) if config.qk_norm == "head" else (config.num_heads, config.num_kv_heads)
        norms = (
            block.norm_weight(f"{name}.{names.q_norm}", q_heads * config.head_dim),
            block.norm_weight(f"{name}.{names.k_norm}", k_heads * config.head_dim),
        )
    if config.sinks:
        full = f"{name}.sinks"
        sinks = Vector(full, block.parameter(full, config.num_heads), ATTENTION)
    return Heads(joined, norms, block.model.norm_eps, sinks)
