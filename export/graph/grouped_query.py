"""Grouped-query attention in plain operators, keys and values in rows of the cache: the exact twin of ONNX Runtime's
kernel, and what all lowerings write where that kernel cannot."""

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import attend, give_present, rows_port
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.model.config import GroupedQuery
from moedge.export.model.rope import Rope


def rotate(low: Lowering, x: ir.Value, heads: int, dim: int, rope: Rope, where: Positions) -> ir.Value:
    """Rotate the first rope.dim dimensions of each head of x [s, heads, dim]."""
    if rope.dim == dim:
        return low.rope(x, heads, rope, where)
    b = low.builder
    turning, still = b.ops("Split", x, b.ints(rope.dim, dim - rope.dim), attributes={"axis": -1}, outputs=2)
    return b.op("Concat", low.rope(turning, heads, rope, where), still, attributes={"axis": -1})


def plain_grouped_query(
    low: Lowering,
    layer: int,
    heads: tuple[ir.Value, ir.Value, ir.Value],
    config: GroupedQuery,
    sinks: ir.Value | None,
    where: Positions,
) -> ir.Value:
    """See `Lowering.grouped_query`. Each key head serves its group of query heads."""
    b, kv, dim, group = low.builder, config.num_kv_heads, config.head_dim, config.heads_a_key
    q = rotate(low, heads[0], config.num_heads, dim, config.rope, where)
    k = rotate(low, heads[1], kv, dim, config.rope, where)
    q = b.op("Mul", q, b.constant(np.array(config.scale, np.float32)))
    grouped = b.op("Reshape", q, b.ints(0, kv, group, dim))  # [s, kv, group, dim]
    queries = b.op("Transpose", grouped, attributes={"perm": [1, 2, 0, 3]})
    queries = b.op("Reshape", queries, b.ints(kv, -1, dim))  # [kv, group * s, dim]
    pairs = []
    for name, rows in (("key", k), ("value", heads[2])):
        past, tensor = rows_port(layer, name, kv * dim)
        new = give_present(b, low.cache, past, tensor, b.op("Reshape", rows, b.ints(0, kv * dim)))
        old, fresh = (_heads_first(b, t, kv, dim) for t in (past, new))
        pairs.append((old, fresh))
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
