"""A gated short convolution in the place of attention; see `ShortConvolution`. Its cache are the rows it convolves."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import give_present, rows_port
from moedge.export.graph.lowering import Lowering
from moedge.export.graph.projections import add_bias
from moedge.export.model.config import ModelConfig, ShortConvolution

GROUP = "convolution"


def short_convolution(
    low: Lowering, ckpt: Checkpoint, model: ModelConfig, config: ShortConvolution, layer: int, x: ir.Value
) -> ir.Value:
    """out_proj(c · conv(b · x)) of normed hidden states [s, hidden_size], with b, c, x = in_proj(hidden)."""
    b, hidden = low.builder, model.hidden_size
    name = model.names.convolution.format(layer=layer)
    with b.scope(name):
        full = f"{name}.in_proj"
        joined = low.linear("in_proj", x, open_matrix(ckpt, full, (3 * hidden, hidden)), GROUP)
        if config.bias:
            joined = add_bias(low, ckpt, joined, "in_proj", {full: 3 * hidden})
        before, after, value = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 3}, outputs=3)
        new = b.op("Mul", before, value)  # [s, hidden]
        rows = new
        if config.kernel > 1:  # a kernel of 1 looks at no token but its own
            past, tensor = rows_port(layer, "convolution", hidden, config.kernel - 1)
            fresh = give_present(b, low.cache, past, tensor, new)
            rows = b.op("Squeeze", b.op("Concat", past, fresh, attributes={"axis": 1}), b.ints(0))
        out = b.op("Mul", after, _convolved(low, ckpt, f"{name}.conv", config, hidden, rows))
        full = f"{name}.out_proj"
        out = low.linear("out_proj", out, open_matrix(ckpt, full, (hidden, hidden)), GROUP)
        return add_bias(low, ckpt, out, "out_proj", {full: hidden}) if config.bias else out


def _convolved(
    low: Lowering, ckpt: Checkpoint, name: str, config: ShortConvolution, hidden: int, rows: ir.Value
) -> ir.Value:
    """y_t = sum_j w_j · rows[t + j], for rows [kernel - 1 + s, hidden] that begin kernel - 1 tokens early."""
    b, kernel = low.builder, config.kernel
    weight = ckpt.read_parameter(f"{name}.weight", hidden, 1, kernel)
    taps = b.matrix(f"{name}.weight", np.ascontiguousarray(weight[:, 0].T), GROUP)  # [kernel, hidden]
    split = b.ops("Split", taps, attributes={"axis": 0, "num_outputs": kernel}, outputs=kernel)
    terms = []
    for j, tap in enumerate(split):
        end = j - kernel + 1 or 2**62
        terms.append(b.op("Mul", b.op("Slice", rows, b.ints(j), b.ints(end), b.ints(0)), tap))
    total = terms[0]
    for term in terms[1:]:
        total = b.op("Add", total, term)
    if config.bias:
        bias = b.vector(f"{name}.bias", ckpt.read_parameter(f"{name}.bias", hidden), GROUP)
        total = b.op("Add", total, bias)
    return total
