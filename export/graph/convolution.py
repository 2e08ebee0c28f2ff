"""A gated short convolution in the place of attention; see `ShortConvolution`. Its cache is the rows it convolves."""

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import give_present, rows_port
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import Positions
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
        joined = block.low.linear("in_proj", x, in_proj, CONVOLUTION)
        if config.bias:
            joined = block.add_bias(joined, "in_proj", {full: 3 * hidden}, CONVOLUTION)
        before, after, value = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 3}, outputs=3)
        new = b.op("Mul", before, value)  # [s, hidden]
        rows = new
        if config.kernel > 1:  # a kernel of 1 looks at no token but its own
            past, tensor = rows_port(block.layer, "convolution", hidden, config.kernel - 1)
            fresh = give_present(b, block.low.cache, past, tensor, new)
            rows = b.op("Squeeze", b.op("Concat", past, fresh, attributes={"axis": 1}), b.ints(0))
        out = b.op("Mul", after, _convolve(block, config, f"{name}.conv", rows))
        full = f"{name}.out_proj"
        out = block.low.linear("out_proj", out, block.matrix(full, hidden, hidden), CONVOLUTION)
        return block.add_bias(out, "out_proj", {full: hidden}, CONVOLUTION) if config.bias else out


def _convolve(block: Block, config: ShortConvolution, name: str, rows: ir.Value) -> ir.Value:
    """y_t = sum_j w_j · rows[t + j], for rows [kernel - 1 + s, hidden] that begin kernel - 1 tokens early."""
    b, kernel, hidden = block.builder, config.kernel, block.model.hidden_size
    weight = block.parameter(f"{name}.weight", *find_taps(block.checkpoint, f"{name}.weight", hidden, kernel))
    by_tap = np.ascontiguousarray(weight.reshape(hidden, kernel).T)  # [kernel, hidden]
    taps = b.matrix(f"{name}.weight", by_tap, CONVOLUTION)
    split = b.ops("Split", taps, attributes={"axis": 0, "num_outputs": kernel}, outputs=kernel)
    terms = []
    for j, tap in enumerate(split):
        end = j - kernel + 1 or 2**62
        terms.append(b.op("Mul", b.op("Slice", rows, b.ints(j), b.ints(end), b.ints(0)), tap))
    total = terms[0]
    for term in terms[1:]:
        total = b.op("Add", total, term)
    return b.op("Add", total, block.vector(f"{name}.bias", CONVOLUTION, hidden)) if config.bias else total
