"""Grouped-query attention of a layer: its projections and what they read; what lies between is the lowering's."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.block import Block, Order
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Positions
from moedge.export.graph.mixer_inputs import Heads, Vector
from moedge.export.model.config import GroupedQuery, OutputGate
from moedge.runtime.manifest import ATTENTION


def grouped_query_attention(block: Block, config: GroupedQuery, x: ir.Value, where: Positions) -> ir.Value:
    """Self-attention over normed hidden states x [s, hidden_size]."""
    b, dim, name = block.builder, config.head_dim, block.place(block.model.names.attention)
    with b.scope(name):
        joined, gate = _project_in(block, config, name, x)
        out = block.low.grouped_query(block.layer, _read_heads(block, config, name, joined), config, where)
        if config.gate and gate:
            out = block.low.open_gate(out, gate, config.gate, config.num_heads, dim)
        o_proj = open_output(block, name, config.num_heads * dim)
        if _value_scales(config):
            o_proj = block.channels.read(f"{name}.v_proj", o_proj, config.heads_a_key, dim)
        return project_out(block, name, out, o_proj, config.output_bias)


def _project_in(block: Block, config: GroupedQuery, name: str, x: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """One product of all that reads x: the heads' part, and what a gate is made of."""
    dim, heads, kv = config.head_dim, config.num_heads, config.num_kv_heads
    beside = config.gate is not None and config.gate.module == "q_proj"  # each head's query, then its gate
    rows = {"q_proj": heads * dim * (2 if beside else 1), "k_proj": kv * dim}
    if not config.value_is_key:
        rows["v_proj"] = kv * dim
    parts = {f"{name}.{part}": count for part, count in rows.items()}
    read = [block.matrix(part, count, block.model.hidden_size) for part, count in parts.items()]
    matrices = [block.read_norm_of(block.model.names.input_norm, matrix) for matrix in read]
    if _value_scales(config):
        matrices[2] = block.channels.write(f"{name}.v_proj", matrices[2])
    orders: list[Order] = [None] * len(parts)
    if config.rope and config.rope.interleaved:
        orders[:2] = (_pair_halves(n, config) for n in (heads, kv))
    width = heads * dim + (len(parts) - 1) * kv * dim
    if beside:
        by_head = np.arange(2 * heads * dim).reshape(heads, 2, dim)
        first = by_head[:, 0].reshape(-1)
        orders[0] = first if orders[0] is None else first[orders[0]]
        matrices.append(matrices[0])
        orders.append(by_head[:, 1].reshape(-1))
    bias = _bias(block, parts, orders) if config.bias else None
    if config.gate and not beside:
        count = heads if config.gate.per_head else heads * dim
        gate = block.matrix(f"{name}.{config.gate.module}", count, block.model.hidden_size)
        matrices.append(block.read_norm_of(block.model.names.input_norm, gate))
        orders.append(None)
        if bias is not None:
            bias = replace(bias, values=np.append(bias.values, np.zeros(count, np.float32)))
    weights = [m if order is None else Reordered(m, order) for m, order in zip(matrices, orders, strict=True)]
    joined = block.low.linear("qkv_proj", x, stack(weights), ATTENTION, bias)
    if config.gate is None:
        return joined, None
    sizes = block.builder.ints(width, sum(m.shape[0] for m in weights) - width)
    first_part, gate_part = block.builder.ops("Split", joined, sizes, attributes={"axis": -1}, outputs=2)
    return first_part, gate_part


def _bias(block: Block, parts: dict[str, int], orders: Sequence[Order]) -> Vector:
    """The biases of q, k and v, and of a gate whose rows stand beside the queries'."""
    if len(orders) == len(parts):
        return block.bias("qkv_proj", parts, ATTENTION, orders)
    whole = block.bias("qkv_proj", parts, ATTENTION, [None] * len(parts))
    ends = np.cumsum([0, *parts.values()])
    pieces = [whole.values[start:end] for start, end in pairwise(ends)]
    pieces.append(pieces[0])
    values = [p if order is None else p[order] for p, order in zip(pieces, orders, strict=True)]
    return replace(whole, values=np.concatenate(values))


def _value_scales(config: GroupedQuery) -> bool:
    """Whether a value n times as large makes the result n times as large, channel by channel."""
    return config.clip is None and not config.value_is_key and not config.value_norm


def plain_gate(b: Builder, out: ir.Value, gate: ir.Value, how: OutputGate, heads: int) -> ir.Value:
    """See `Lowering.open_gate`, in plain operators."""
    opened = b.op("Sigmoid" if how.activation == "sigmoid" else "Softplus", gate)
    if not how.per_head:
        return b.op("Mul", out, opened)
    by_head = b.op("Reshape", out, b.ints(0, heads, -1))
    return b.op("Reshape", b.op("Mul", by_head, b.op("Unsqueeze", opened, b.ints(-1))), b.ints(0, -1))


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
    if config.rope is None or config.rope.dim != config.head_dim:
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
