"""An MLP that every token runs: a dense layer's, or the shared experts of a Mixture-of-Experts layer as one."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.views import stack
from moedge.export.graph.arithmetic import activate
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import GatedMlp, Lowering, RouterWeights
from moedge.export.model.layouts import find_mlp
from moedge.runtime.manifest import DENSE_MLP, GroupName


def dense_mlp(block: Block, x: ir.Value) -> ir.Value:
    """The MLP of a layer without experts."""
    name, width = block.place(block.model.names.mlp), block.model.intermediate_size
    return block.low.mlp(x, read_mlp(block, name, width, DENSE_MLP))


def read_mlp(block: Block, name: str, width: int, group: GroupName) -> GatedMlp:
    """The weights of module `name`."""
    hidden = block.model.hidden_size
    parts, how = find_mlp(block.checkpoint, name, block.model.names.parts), block.model.mlp_gate
    rows = how.matrices * width // len(parts.gate_up)  # both in one are gate rows before up rows
    norm = block.model.names.post_attention_norm
    gate_up = [block.read_norm_of(norm, block.matrix(part, rows, hidden)) for part in parts.gate_up]
    down = block.matrix(parts.down, hidden, width)
    if how.scales_up:
        gate_up[-1] = block.channels.write(parts.down, gate_up[-1], slice(rows - width, None))
        down = block.channels.read(parts.down, down)
    biases = None
    if block.model.mlp_bias:
        first = np.concatenate([block.parameter(f"{part}.bias", rows) for part in parts.gate_up])
        if how.scales_up:
            first = block.channels.divide(parts.down, first, slice(width, None))
        biases = first, block.parameter(f"{parts.down}.bias", hidden)
    return GatedMlp(gate_up, down, width, group, biases, how)


def plain_mlp(low: Lowering, x: ir.Value, weights: GatedMlp) -> ir.Value:
    """See `Lowering.mlp`: gate and up are one product, and plain operators do what lies between it and down's."""
    b, group = low.builder, weights.group
    first, second = weights.name_biases(b)
    joined = low.linear("gate_up_proj", x, stack(weights.gate_up), group, first)
    return low.linear("down_proj", activate(b, joined, weights.how), weights.down, group, second)


def plain_shared(
    low: Lowering, x: ir.Value, routed: ir.Value, weights: GatedMlp, gate: RouterWeights | None
) -> ir.Value:
    """See `Lowering.add_shared`."""
    b = low.builder
    with b.scope("shared_experts"):
        always = low.mlp(x, weights)
        if gate:
            open_by = b.op("Sigmoid", b.op("Gemm", x, gate.store(b), attributes={"transB": 1}))  # [s, 1]
            always = b.op("Mul", always, open_by)
    return b.op("Add", routed, always)
