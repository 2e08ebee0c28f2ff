"""Standard-ONNX pieces that all lowerings use: norms, gates, masks, attention over a past and new rows kept apart."""

import numpy as np
import onnx_ir as ir

from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Bias, CachePort, Norm, Positions
from moedge.export.graph.mixer_inputs import Vector
from moedge.export.model.config import Gate
from moedge.runtime.manifest import CacheTensor

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def rms_norm(b: Builder, x: ir.Value, weight: ir.Value, eps: float) -> ir.Value:
    """x / sqrt(mean(x²) + eps) · weight over the last axis; ONNX Runtime fuses this very pattern."""
    square = b.op("Pow", x, b.constant(np.array(2, np.float32)))
    mean = b.op("ReduceMean", square, b.ints(-1), attributes={"keepdims": 1})
    root = b.op("Sqrt", b.op("Add", mean, b.constant(np.array(eps, np.float32))))
    return b.op("Mul", b.op("Div", x, root), weight)


def normalize(b: Builder, x: ir.Value, norm: Norm) -> ir.Value:
    """RMSNorm, or LayerNorm where there is a bias."""
    if norm.bias is None:
        return rms_norm(b, x, norm.weight, norm.eps)
    return b.op("LayerNormalization", x, norm.weight, norm.bias, attributes={"axis": -1, "epsilon": norm.eps})


def soften(b: Builder, x: ir.Value, cap: float) -> ir.Value:
    """cap · tanh(x / cap), without a node where the cap is 0."""
    return scale(b, b.op("Tanh", scale(b, x, 1 / cap)), cap) if cap else x


def activate(b: Builder, joined: ir.Value, how: Gate) -> ir.Value:
    """What an MLP makes of gate and up [s, 2 · width], gate before up, or of up alone [s, width]; see `Gate`."""
    if how.matrices == 1:
        return b.op("Pow", b.op("Relu", joined), b.constant(np.array(2, np.float32)))
    gate, up = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    return apply_gate(b, gate, up, how)


def apply_gate(b: Builder, gate: ir.Value, up: ir.Value, how: Gate) -> ir.Value:
    """gate · sigmoid(alpha gate) · (up + beta), both held within the limit first, or gelu(gate) · up; see `Gate`."""
    if how.kind == "geglu_tanh":
        return b.op("Mul", b.op("Gelu", gate, attributes={"approximate": "tanh"}), up)
    if how.limit is not None:
        low, high = (b.constant(np.array(v, np.float32)) for v in (-how.limit, how.limit))
        gate, up = b.op("Min", gate, high), b.op("Clip", up, low, high)
    if how.beta:
        up = b.op("Add", up, b.constant(np.array(how.beta, np.float32)))
    return b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", scale(b, gate, how.alpha))), up)


def scale(b: Builder, x: ir.Value, factor: float) -> ir.Value:
    """x · factor, without a node where it is 1."""
    return x if factor == 1.0 else b.op("Mul", x, b.constant(np.array(factor, np.float32)))


def add_bias(b: Builder, x: ir.Value, bias: Vector | None) -> ir.Value:
    """x + bias, without a node where there is none."""
    return x if bias is None else b.op("Add", x, bias.store(b))


def find_rows(b: Builder, positions: ir.Value, total: ir.Value, switch: int) -> ir.Value:
    """The rows of the rotary tables for these positions: `switch` further down once there are more tokens than that."""
    if not switch:
        return positions
    longer = b.op("Cast", b.op("Greater", total, b.ints(switch)), attributes={"to": ir.DataType.INT64.value})
    return b.op("Add", positions, b.op("Mul", longer, b.ints(switch)))


def causal_bias(b: Builder, new: ir.Value, heads: int) -> Bias:
    """Any past token may be looked at, and of the new ones those not after the looking one; for `heads` query heads."""
    square = b.op("Concat", new, new, attributes={"axis": 0})
    lowest = b.op("Expand", b.constant(np.array([-np.inf], np.float32)), square)
    above = b.op("Trilu", lowest, b.constant(np.array(1, np.int64)), attributes={"upper": 1})
    return Bias(None, _for_heads(b, above, new, new, heads))


def window_bias(b: Builder, past: ir.Value, new: ir.Value, positions: ir.Value, heads: int, window: int) -> Bias:
    """As `causal_bias`, but only the last `window` positions, the looking one's included, may be looked at."""
    zero, step = b.constant(np.array(0, np.int64)), b.constant(np.array(1, np.int64))
    old = b.op("Range", zero, b.op("Squeeze", past, b.ints(0)), step)  # [t]
    here = b.op("Unsqueeze", positions, b.ints(-1))  # [s, 1]
    far, near = (b.op("Sub", here, b.op("Unsqueeze", seen, b.ints(0))) for seen in (old, positions))
    widest = b.constant(np.array(window, np.int64))
    hidden = b.op("Or", b.op("Less", near, zero), b.op("GreaterOrEqual", near, widest))
    return Bias(
        _for_heads(b, _bar(b, b.op("GreaterOrEqual", far, widest)), new, past, heads),
        _for_heads(b, _bar(b, hidden), new, new, heads),
    )


def _bar(b: Builder, where: ir.Value) -> ir.Value:
    """-inf where true, 0 elsewhere."""
    return b.op("Where", where, b.constant(np.array(-np.inf, np.float32)), b.constant(np.array(0, np.float32)))


def _for_heads(b: Builder, bias: ir.Value, new: ir.Value, width: ir.Value, heads: int) -> ir.Value:
    """[s, width] repeated for every head: [heads * s, width], for a width of 0 too."""
    shape = b.op("Concat", b.ints(heads), new, width, attributes={"axis": 0})
    flat = b.op("Concat", b.op("Mul", new, b.ints(heads)), width, attributes={"axis": 0})
    return b.op("Reshape", b.op("Expand", bias, shape), flat, attributes={"allowzero": 1})


def rows_port(layer: int, name: str, width: int, window: int = 0) -> tuple[ir.Value, CacheTensor]:
    """The input and the manifest's entry of a cache of layout `rows`."""
    rows = window or "past_length"
    past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=ir.Shape([1, rows, width]))
    return past, CacheTensor(past.name or "", f"present.{layer}.{name}", "rows", (width,), window)


def give_present(b: Builder, cache: list[CachePort], past: ir.Value, tensor: CacheTensor, rows: ir.Value) -> ir.Value:
    """Give out new rows [s, width] as the cache's output [1, s, width]; returns that."""
    value = b.op("Unsqueeze", rows, b.ints(0), output=tensor.present)
    value.type = FLOAT
    value.shape = ir.Shape([1, "sequence_length", tensor.shape[0]])
    cache.append(CachePort(tensor, past, value))
    return value


def attend(
    b: Builder,
    q: ir.Value,
    keys: tuple[ir.Value, ir.Value],
    values: tuple[ir.Value, ir.Value],
    where: Positions,
    bias: Bias,
    sinks: ir.Value | None = None,
) -> ir.Value:
    """Softmax attention of q [g, h * s, d] over past and new keys [g, t, d], [g, s, d], each scored by itself.

    The scores are joined, never the keys, so the cache is read where it lies. `sinks` [g, h * s, 1] take part in the
    softmax and weigh nothing. Returns [g, h * s, width of the values].
    """
    old, fresh = (b.op("MatMul", q, b.op("Transpose", k, attributes={"perm": [0, 2, 1]})) for k in keys)
    scores = [old if bias.past is None else b.op("Add", old, bias.past), b.op("Add", fresh, bias.new)]
    sizes = [where.past_length, where.new_length]
    if sinks is not None:
        scores.append(sinks)
        sizes.append(b.ints(1))
    joined = b.op("Softmax", b.op("Concat", *scores, attributes={"axis": -1}), attributes={"axis": -1})
    past, new, *_ = b.ops(
        "Split", joined, b.op("Concat", *sizes, attributes={"axis": 0}), attributes={"axis": -1}, outputs=len(sizes)
    )
    return b.op("Add", b.op("MatMul", past, values[0]), b.op("MatMul", new, values[1]))
