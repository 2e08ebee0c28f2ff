"""Mamba-2 in the place of attention, see `Mamba2`: one projection in, of z, of x, B and C, and of dt; and one out."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.views import pick_rows
from moedge.export.graph.block import Block
from moedge.export.graph.convolution import read_taps
from moedge.export.graph.delta_net import exact_product
from moedge.export.graph.lowering import Positions
from moedge.export.graph.mixer_inputs import MambaInputs, Vector
from moedge.export.model.recurrent import Mamba2
from moedge.runtime.manifest import ATTENTION, CONVOLUTION, NORMS


def mamba2(block: Block, config: Mamba2, x: ir.Value, _: Positions) -> ir.Value:
    """out_proj of what the recurrence makes of normed hidden states x [s, hidden_size]."""
    b, low, hidden, name = block.builder, block.low, block.model.hidden_size, block.place(block.model.names.recurrent)
    wide, heads = config.inner + config.convolved, config.heads

    def vector(what: str, size: int) -> Vector:
        return Vector(f"{name}.{what}", block.parameter(f"{name}.{what}", size), ATTENTION)

    with b.scope(name):
        full = f"{name}.in_proj"
        in_proj = block.read_norm_of(block.model.names.input_norm, block.matrix(full, wide + heads, hidden))
        bias = block.bias("in_proj", {full: wide + heads}, ATTENTION).values if config.bias else None
        first = None if bias is None else Vector(b.full_name("in_proj.bias"), bias[:wide], ATTENTION)
        joined = low.linear("in_proj", x, pick_rows(in_proj, 0, wide), ATTENTION, first)
        sizes = b.ints(config.inner, config.convolved)
        gate, mixed = b.ops("Split", joined, sizes, attributes={"axis": -1}, outputs=2)
        dt = exact_product(block, "dt_proj", x, pick_rows(in_proj, wide, wide + heads))
        dt_bias = vector("dt_bias", heads)
        if bias is not None:
            dt_bias = Vector(dt_bias.name, dt_bias.values + bias[wide:], ATTENTION)
        taps, added = read_taps(block, f"{name}.conv1d", config.convolved, config.kernel), None
        if config.kernel_bias:
            full = f"{name}.conv1d.bias"
            added = Vector(full, block.parameter(full, config.convolved), CONVOLUTION)
        mixed = low.causal_convolution(block.layer, mixed, taps, added)
        a = Vector(f"{name}.A", -np.exp(vector("A_log", heads).values), ATTENTION)
        norm = Vector(f"{name}.norm.weight", block.parameter(f"{name}.norm.weight", config.inner), NORMS)
        out = low.mamba2(block.layer, MambaInputs(mixed, gate, dt, a, dt_bias, vector("D", heads), norm), config)
        bias_out = block.bias("out_proj", {f"{name}.out_proj": hidden}, ATTENTION) if config.bias else None
        return low.linear("out_proj", out, block.matrix(f"{name}.out_proj", hidden, config.inner), ATTENTION, bias_out)
