"""Convolutions of each channel by itself: LFM2's in the place of attention, see `ShortConvolution`, and a delta net's.

The cache of the one is the rows it convolves, that of the other a state of its last rows.
"""

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import give_present, rows_port
from moedge.export.graph.block import Block
from moedge.export.graph.builder import Attributes, Builder
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.graph.mixer_inputs import Convolved, Vector
from moedge.export.graph.recurrence import keep_state, silu, state_port
from moedge.export.model.config import ShortConvolution
from moedge.export.model.layouts import find_taps
from moedge.runtime.manifest import CONVOLUTION


def short_convolution(block: Block, config: ShortConvolution, x: ir.Value, _: Positions) -> ir.Value:
    """out_proj(c · conv(b · x)) of normed hidden states [s, hidden_size], with b, c, x = in_proj(hidden)."""
    b, hidden = block.builder, block.model.hidden_size
    name = block.place(block.model.names.convolution)
    with b.scope(name):
        full = f"{name}.in_proj"
        in_proj = block.read_norm_of(block.model.names.input_norm, block.matrix(full, 3 * hidden, hidden))
        bias = block.bias("in_proj", {full: 3 * hidden}, CONVOLUTION) if config.bias else None
        joined = block.low.linear("in_proj", x, in_proj, CONVOLUTION, bias)
        out = block.low.convolve(block.layer, Convolved(joined, *_read_filter(block, config, f"{name}.conv")))
        full = f"{name}.out_proj"
        bias = block.bias("out_proj", {full: hidden}, CONVOLUTION) if config.bias else None
        return block.low.linear("out_proj", out, block.matrix(full, hidden, hidden), CONVOLUTION, bias)


def _read_filter(block: Block, config: ShortConvolution, name: str) -> tuple[Vector, Vector | None]:
    """The taps [kernel, hidden_size] of all channels, and the bias."""
    hidden = block.model.hidden_size
    taps = read_taps(block, name, hidden, config.kernel)
    if not config.bias:
        return taps, None
    full = f"{name}.bias"
    return taps, Vector(full, block.parameter(full, hidden), CONVOLUTION)


def read_taps(block: Block, name: str, channels: int, kernel: int) -> Vector:
    """The taps [kernel, channels] of a convolution of each channel by itself."""
    full = f"{name}.weight"
    weight = block.parameter(full, *find_taps(block.checkpoint, full, channels, kernel))
    return Vector(full, np.ascontiguousarray(weight.reshape(channels, kernel).T), CONVOLUTION)


def plain_causal_convolution(low: Lowering, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
    """See `Lowering.causal_convolution`, in plain operators; its state is the last rows of x."""
    b, (kernel, channels) = low.builder, taps.values.shape
    past, tensor = state_port(layer, "conv_state", (kernel - 1, channels))
    rows = b.op("Concat", b.op("Squeeze", past, b.ints(0)), x, attributes={"axis": 0})
    last = b.op("Slice", rows, b.ints(1 - kernel), b.ints(2**62), b.ints(0))
    keep_state(low.cache, past, tensor, b.op("Unsqueeze", last, b.ints(0), output=tensor.present))
    return silu(b, _sum_taps(b, b.matrix(taps.name, taps.values, taps.group), bias, rows, kernel))


def plain_convolution(low: Lowering, layer: int, given: Convolved) -> ir.Value:
    """See `Lowering.convolve`, in plain operators."""
    b, (kernel, hidden) = low.builder, given.taps.values.shape
    attributes: Attributes = {"axis": -1, "num_outputs": 3}
    before, after, value = b.ops("Split", given.joined, attributes=attributes, outputs=3)
    new = b.op("Mul", before, value)  # [s, hidden]
    rows = new
    if kernel > 1:  # a kernel of 1 looks at no token but its own
        past, tensor = rows_port(layer, "convolution", hidden, kernel - 1)
        fresh = give_present(b, low.cache, past, tensor, new)
        rows = b.op("Squeeze", b.op("Concat", past, fresh, attributes={"axis": 1}), b.ints(0))
    return b.op("Mul", after, _sum_taps(b, given.store_taps(b), given.bias, rows, kernel))


def _sum_taps(b: Builder, taps: ir.Value, bias: Vector | None, rows: ir.Value, kernel: int) -> ir.Value:
    """y_t = bias + sum_j w_j · rows[t + j], for rows [kernel - 1 + s, width] that begin kernel - 1 tokens early."""
    split = b.ops("Split", taps, attributes={"axis": 0, "num_outputs": kernel}, outputs=kernel)
    terms = []
    for j, tap in enumerate(split):
        end = j - kernel + 1 or 2**62
        terms.append(b.op("Mul", b.op("Slice", rows, b.ints(j), b.ints(end), b.ints(0)), tap))
    total = terms[0]
    for term in terms[1:]:
        total = b.op("Add", total, term)
    return b.op("Add", total, bias.store(b)) if bias else total
