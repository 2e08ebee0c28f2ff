"""A gated MLP that every token runs: a dense layer's, or the shared experts of a Mixture-of-Experts layer as one."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.views import stack
from moedge.export.graph.arithmetic import apply_gate
from moedge.export.graph.block import Block
from moedge.export.model.config import SILU
from moedge.export.model.layouts import find_mlp
from moedge.runtime.manifest import DENSE_MLP, GroupName


def dense_mlp(block: Block, x: ir.Value) -> ir.Value:
    """The MLP of a layer without experts."""
    return mlp(block, block.place(block.model.names.mlp), block.model.intermediate_size, x, DENSE_MLP)


def mlp(block: Block, name: str, width: int, x: ir.Value, group: GroupName) -> ir.Value:
    """down(silu(gate x) * up x) of module `name`, gate and up as one product."""
    hidden = block.model.hidden_size
    parts = find_mlp(block.checkpoint, name, block.model.names.parts)
    rows = 2 * width // len(parts.gate_up)  # both in one are gate rows before up rows
    norm = block.model.names.post_attention_norm
    read = [block.read_norm_of(norm, block.matrix(part, rows, hidden)) for part in parts.gate_up]
    read[-1] = block.channels.write(parts.down, read[-1], slice(rows - width, None))
    gate_up = stack(read)
    down = block.channels.read(parts.down, block.matrix(parts.down, hidden, width))
    biases = None
    if block.model.mlp_bias:
        first = np.concatenate([block.parameter(f"{part}.bias", rows) for part in parts.gate_up])
        first = block.channels.divide(parts.down, first, slice(width, None))
        biases = first, block.parameter(f"{parts.down}.bias", hidden)
    b, low = block.builder, block.low
    joined = low.linear("gate_up_proj", x, gate_up, group)
    if biases is not None:
        joined = b.op("Add", joined, b.vector(b.full_name("gate_up_proj.bias"), biases[0], group))
    gate, up = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    out = low.linear("down_proj", apply_gate(b, gate, up, SILU), down, group)
    if biases is not None:
        out = b.op("Add", out, b.vector(b.full_name("down_proj.bias"), biases[1], group))
    return out
