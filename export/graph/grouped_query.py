"""Grouped-query attention in plain operators, keys and values in rows of the cache: the exact twin of ONNX Runtime's
kernel, and what all lowerings write where that kernel cannot."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import attend, give_present, rms_norm, rows_port
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.graph.mixer_inputs import Heads
from moedge.export.model.config import GroupedQuery
from moedge.export.model.rope import Rope


@dataclass(frozen=True)
class OpenHeads:
    """Queries [s, num_heads, head_dim], keys and values [s, num_kv_heads, head_dim], and sinks [num_heads].

    Normalized and clipped, not yet rotated.
    """

    q: ir.Value
    k: ir.Value
    v: ir.Value
    sinks: ir.Value | None


def open_heads(b: Builder, heads: Heads, config: GroupedQuery) -> OpenHeads:
    """The joint product taken apart."""
    dim, counts = config.head_dim, (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    sizes = [n * dim for n in counts[: 2 if config.value_is_key else 3]]
    q, k, *rest = b.ops("Split", heads.joined, b.ints(*sizes), attributes={"axis": -1}, outputs=len(sizes))
    v = rest[0] if rest else k
    if config.qk_norm == "whole":
        q, k = _norm_both(b, heads, q, k)
    if config.clip is not None:
        bounds = [b.constant(np.array(v, np.float32)) for v in (-config.clip, config.clip)]
        q, k, v = (b.op("Clip", t, *bounds) for t in (q, k, v))
    q, k, v = (b.op("Reshape", t, b.ints(0, n, dim)) for t, n in zip((q, k, v), counts, strict=True))
    if config.qk_norm == "head":
        q, k = _norm_both(b, heads, q, k)
    if config.value_norm:
        v = rms_norm(b, v, b.constant(np.ones(dim, np.float32)), heads.norm_eps)
    return OpenHeads(q, k, v, None if heads.sinks is None else heads.sinks.store(b))


def _norm_both(b: Builder, heads: Heads, q: ir.Value, k: ir.Value) -> tuple[ir.Value, ir.Value]:
    if heads.norms is None:
        raise AssertionError("norms of q and k without weights")
    first, second = heads.norms
    q = rms_norm(b, q, first.store(b), heads.norm_eps)
    return q, rms_norm(b, k, second.store(b), heads.norm_eps)


def rotate(low: Lowering, x: ir.Value, heads: int, dim: int, rope: Rope | None, where: Positions) -> ir.Value:
    """Rotate the first rope.dim dimensions of each head of x [s, heads, dim]."""
    if rope is None:
        return x
    if rope.dim == dim:
        return low.rope(x, heads, rope, where)
    b = low.builder
    turning, still = b.ops("Split", x, b.ints(rope.dim, dim - rope.dim), attributes={"axis": -1}, outputs=2)
    return b.op("Concat", low.rope(turning, heads, rope, where), still, attributes={"axis": -1})


def plain_grouped_query(
    low: Lowering,
    layer: int,
    heads: OpenHeads,
    config: GroupedQuery,
    where: Positions,
) -> ir.Value:
    """See `Lowering.grouped_query`. Each key head serves its group of query heads."""
    b, kv, dim, group = low.builder, config.num_kv_heads, config.head_dim, config.heads_a_key
    q = rotate(low, heads.q, config.num_heads, dim, config.rope, where)
    k = rotate(low, heads.k, kv, dim, config.rope, where)
    q = b.op("Mul", q, b.constant(np.array(config.scale, np.float32)))
    grouped = b.op("Reshape", q, b.ints(0, kv, group, dim))  # [s, kv, group, dim]
    queries = b.op("Transpose", grouped, attributes={"perm": [1, 2, 0, 3]})
    queries = b.op("Reshape", queries, b.ints(kv, -1, dim))  # [kv, group * s, dim]
    pairs = []
    for name, rows in (("key", k), ("value", heads.v)):
        past, tensor = rows_port(layer, name, kv * dim)
        new = give_present(b, low.cache, past, tensor, b.op("Reshape", rows, b.ints(0, kv * dim)))
        old, fresh = (_heads_first(b, t, kv, dim) for t in (past, new))
        pairs.append((old, fresh))
    sinks = heads.sinks
    if sinks is not None:
        shape = b.op("Concat", b.ints(kv, group), where.new_length, b.ints(1), attributes={"axis": 0})
        each = b.op("Expand", b.op("Reshape", sinks, b.ints(kv, group, 1, 1)), shape)
        sinks = b.op("Reshape", each, b.ints(kv, -1, 1))  # [kv, group * s, 1]
    out = attend(b, queries, pairs[0], pairs[1], where, where.mask(config), sinks)
    shape = b.op("Concat", b.ints(kv, group), where.new_length, b.ints(dim), attributes={"axis": 0})
    by_token = b.op("Transpose", b.op("Reshape", out, shape), attributes={"perm": [2, 0, 1, 3]})
    return b.op("Reshape", by_token, b.ints(0, config.num_heads * dim))


def _heads_first(b: Builder, rows: ir.Value, heads: int, dim: int) -> ir.Value:
    """[1, t, heads * dim] to [heads, t, dim]."""
    split = b.op("Reshape", rows, b.ints(-1, heads, dim))
    return b.op("Transpose", split, attributes={"perm": [1, 0, 2]})
