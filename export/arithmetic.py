"""Standard-ONNX pieces that both lowerings use: norms, SwiGLU, attention over a past and new rows kept apart."""

import numpy as np
import onnx_ir as ir

from moedge.export.builder import Builder
from moedge.export.lowering import CachePort, Positions
from moedge.runtime.manifest import CacheTensor

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def rms_norm(b: Builder, x: ir.Value, weight: ir.Value, eps: float) -> ir.Value:
    """x / sqrt(mean(x²) + eps) · weight over the last axis; ONNX Runtime fuses this very pattern."""
    square = b.op("Pow", x, b.constant(np.array(2, np.float32)))
    mean = b.op("ReduceMean", square, b.ints(-1), attributes={"keepdims": 1})
    root = b.op("Sqrt", b.op("Add", mean, b.constant(np.array(eps, np.float32))))
    return b.op("Mul", b.op("Div", x, root), weight)


def swiglu(b: Builder, gate: ir.Value, up: ir.Value) -> ir.Value:
    """gate · sigmoid(gate) · up."""
    return b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)


def lengths(b: Builder, attention_mask: ir.Value, input_ids: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """Past, new and total length, int64 [1] each, and the new tokens' positions, int64 [s]."""
    total = b.op("Shape", attention_mask, attributes={"start": 1, "end": 2})
    new = b.op("Shape", input_ids, attributes={"start": 1, "end": 2})
    past = b.op("Sub", total, new)
    scalars = [b.op("Squeeze", value, b.ints(0)) for value in (past, total)]
    positions = b.op("Range", *scalars, b.constant(np.array(1, np.int64)))
    return past, new, total, positions


def causal_bias(b: Builder, new: ir.Value, heads: int) -> ir.Value:
    """0 where a new token may look at a new token, -inf where it may not: [heads * s, s], the same for every head."""
    square = b.op("Concat", new, new, attributes={"axis": 0})
    lowest = b.op("Expand", b.constant(np.array([-np.inf], np.float32)), square)
    above = b.op("Trilu", lowest, b.constant(np.array(1, np.int64)), attributes={"upper": 1})
    tall = b.op("Concat", b.ints(heads), new, new, attributes={"axis": 0})
    each = b.op("Expand", above, tall)
    flat = b.op("Concat", b.ints(-1), new, attributes={"axis": 0})
    return b.op("Reshape", each, flat)


def rows_port(layer: int, name: str, width: int) -> tuple[ir.Value, CacheTensor]:
    """The input and the manifest's entry of a cache of layout `rows`."""
    past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=ir.Shape([1, "past_length", width]))
    return past, CacheTensor(past.name or "", f"present.{layer}.{name}", "rows", (width,))


def present(b: Builder, cache: list[CachePort], past: ir.Value, tensor: CacheTensor, rows: ir.Value) -> ir.Value:
    """Give out new rows [s, width] as the cache's output [1, s, width]; returns that."""
    value = b.op("Unsqueeze", rows, b.ints(0), output=tensor.present)
    value.type = FLOAT
    value.shape = ir.Shape([1, "sequence_length", tensor.shape[0]])
    cache.append(CachePort(tensor, past, value))
    return value


def attend(
    b: Builder, q: ir.Value, keys: tuple[ir.Value, ir.Value], values: tuple[ir.Value, ir.Value], where: Positions
) -> ir.Value:
    """Softmax attention of q [g, h * s, d] over past and new keys [g, t, d], [g, s, d], each scored by itself.

    The scores are joined, never the keys, so the cache is read where it lies. Returns [g, h * s, width of the values].
    """
    scores = [b.op("MatMul", q, b.op("Transpose", k, attributes={"perm": [0, 2, 1]})) for k in keys]
    joined = b.op("Concat", scores[0], b.op("Add", scores[1], where.causal_bias), attributes={"axis": -1})
    sizes = b.op("Concat", where.past_length, where.new_length, attributes={"axis": 0})
    past, new = b.ops(
        "Split", b.op("Softmax", joined, attributes={"axis": -1}), sizes, attributes={"axis": -1}, outputs=2
    )
    return b.op("Add", b.op("MatMul", past, values[0]), b.op("MatMul", new, values[1]))
