"""A gated MLP that every token runs: a dense layer's, or the shared experts of a Mixture-of-Experts layer as one."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import stack
from moedge.export.graph.arithmetic import apply_gate
from moedge.export.graph.block import Block
from moedge.export.model.config import SILU
from moedge.quant.blocks import F32
from moedge.runtime.manifest import DENSE_MLP, GroupName


def dense_mlp(block: Block, x: ir.Value) -> ir.Value:
    """The MLP of a layer without experts."""
    return mlp(block, block.place(block.model.names.mlp), block.model.intermediate_size, x, DENSE_MLP)


def mlp(block: Block, name: str, width: int, x: ir.Value, group: GroupName) -> ir.Value:
    """down(silu(gate x) * up x) of module `name`, gate and up as one product."""
    names, hidden = block.model.names, block.model.hidden_size
    parts = [f"{name}.{part}" for part in (names.gate, names.up)]
    first = stack([block.matrix(part, width, hidden) for part in parts])
    second = block.matrix(f"{name}.{names.down}", hidden, width)
    if not block.model.mlp_bias:
        return gated_mlp(block, x, first, second, group)
    biases = [block.parameter(f"{part}.bias", width) for part in parts]
    last = block.parameter(f"{name}.{names.down}.bias", hidden)
    return gated_mlp(block, x, first, second, group, (np.concatenate(biases), last))


def gated_mlp(
    block: Block,
    x: ir.Value,
    gate_up: Matrix,
    down: Matrix,
    group: GroupName,
    biases: tuple[F32, F32] | None = None,
) -> ir.Value:
    """The same of given matrices: gate rows before up rows [2 * width, hidden], and [hidden, width]."""
    b, low = block.builder, block.low
    joined = low.linear("gate_up_proj", x, gate_up, group)
    if biases is not None:
        joined = b.op("Add", joined, b.vector(b.full_name("gate_up_proj.bias"), biases[0], group))
    gate, up = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    out = low.linear("down_proj", apply_gate(b, gate, up, SILU), down, group)
    if biases is not None:
        out = b.op("Add", out, b.vector(b.full_name("down_proj.bias"), biases[1], group))
    return out
