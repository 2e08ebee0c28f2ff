"""A gated MLP that every token runs: a dense layer's, or the shared experts of a Mixture-of-Experts layer as one."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.checkpoint.views import stack
from moedge.export.graph.arithmetic import apply_gate
from moedge.export.graph.lowering import Lowering
from moedge.export.model.config import SILU, ModelConfig


def mlp(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, name: str, width: int, x: ir.Value, group: str
) -> ir.Value:
    """down(silu(gate x) * up x) of module `name`, gate and up as one product."""
    names, hidden = model.names, model.hidden_size
    parts = [f"{name}.{part}" for part in (names.gate, names.up)]
    first = stack([open_matrix(checkpoint, part, (width, hidden)) for part in parts])
    second = open_matrix(checkpoint, f"{name}.{names.down}", (hidden, width))
    if not model.mlp_bias:
        return gated_mlp(low, x, first, second, group)
    biases = [checkpoint.read_parameter(f"{part}.bias", width) for part in parts]
    last = checkpoint.read_parameter(f"{name}.{names.down}.bias", hidden)
    return gated_mlp(low, x, first, second, group, (np.concatenate(biases), last))


def gated_mlp(
    low: Lowering,
    x: ir.Value,
    gate_up: Matrix,
    down: Matrix,
    group: str,
    biases: tuple[np.ndarray, np.ndarray] | None = None,
) -> ir.Value:
    """The same of given matrices: gate rows before up rows [2 * width, hidden], and [hidden, width]."""
    b = low.builder
    joined = low.linear("gate_up_proj", x, gate_up, group)
    if biases is not None:
        joined = b.op("Add", joined, b.vector(b.scoped("gate_up_proj.bias"), biases[0], group))
    gate, up = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    out = low.linear("down_proj", apply_gate(b, gate, up, SILU), down, group)
    if biases is not None:
        out = b.op("Add", out, b.vector(b.scoped("down_proj.bias"), biases[1], group))
    return out
