"""A Mixture-of-Experts layer: the router, the routed experts wherever the checkpoint keeps them, the shared ones."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.errors import TensorError
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_expert, stand_in
from moedge.export.checkpoint.views import in_turn
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import ExpertWeights, RouterWeights
from moedge.export.graph.mlp import read_mlp
from moedge.export.graph.routing import route
from moedge.export.model.layouts import ExpertLayout, expect_stacked, find_experts
from moedge.quant.blocks import F32
from moedge.runtime.manifest import SHARED_EXPERTS

_UP = slice(1, None, 2)  # of rows gate0, up0, gate1, up1, …


def moe_layer(block: Block, x: ir.Value) -> ir.Value:
    """The routed experts' weighted sum and, where there are any, the shared experts, of hidden states x."""
    config, names = block.model.experts, block.model.names
    routing = route(block, x)
    out = block.low.experts(x, routing, open_experts(block), config)
    if not config.shared_intermediate_size:
        return out
    gate, width = None, config.shared_intermediate_size
    weights = read_mlp(block, block.place(names.shared_expert), width, SHARED_EXPERTS)
    if config.shared_gate:
        name = block.place(names.shared_gate)
        published = block.matrix(name, 1, block.model.hidden_size)
        gate = RouterWeights(f"{name}.weight", block.read_norm_of(names.post_attention_norm, published))
    return block.low.add_shared(x, out, weights, gate)


def open_experts(block: Block) -> ExpertWeights:
    """The routed experts of a layer, however the checkpoint lays them out."""
    config, hidden = block.model.experts, block.model.hidden_size
    layout = find_experts(block.checkpoint, block.model.names, block.layer)
    names, width = layout.projections, config.intermediate_size
    joint = len(names.gate_up) == 1
    rows = 2 * width if joint else width
    opened = [_open_each(block, layout, name, rows, hidden) for name in names.gate_up]
    if not joint:
        gate_up = [in_turn(parts) for parts in zip(*opened, strict=True)]
    elif layout.in_turn:
        gate_up = opened[0]
    else:
        gate_up = [in_turn([matrix]) for matrix in opened[0]]
    gate_up = [block.read_norm_of(block.model.names.post_attention_norm, matrix) for matrix in gate_up]
    down = _open_each(block, layout, names.down, hidden, width)
    writers = [matrix.name for matrix in down]
    if config.gate.scales_up:
        gate_up = [block.channels.write(w, matrix, _UP) for w, matrix in zip(writers, gate_up, strict=True)]
        down = [block.channels.read(w, matrix) for w, matrix in zip(writers, down, strict=True)]
    if not config.bias:
        return ExpertWeights(gate_up, down)
    biases = [_read_biases(block, layout, name, rows) for name in names.gate_up]
    if not layout.in_turn:
        gate, up = biases if not joint else np.split(biases[0], 2, axis=1)
        biases = [np.stack([gate, up], axis=2).reshape(config.num_experts, 2 * width)]
    first = np.stack([block.channels.divide(w, bias, _UP) for w, bias in zip(writers, biases[0], strict=True)])
    return ExpertWeights(gate_up, down, first, _read_biases(block, layout, names.down, hidden))


def _open_each(block: Block, layout: ExpertLayout, name: str, rows: int, columns: int) -> list[Matrix]:
    """A projection of each expert."""
    experts, checkpoint = range(block.model.experts.num_experts), block.checkpoint
    if not layout.stacked:
        return [block.matrix(name.format(expert=e), rows, columns) for e in experts]
    try:
        expect_stacked(checkpoint, layout, name, (len(experts), rows, columns))
    except TensorError as error:
        checkpoint.report(name, error, (rows, columns))
        return [stand_in(name, (rows, columns))] * len(experts)
    return [open_expert(checkpoint, name, e, (rows, columns), layout.turned) for e in experts]


def _read_biases(block: Block, layout: ExpertLayout, name: str, rows: int) -> F32:
    """A projection's biases of all experts [E, rows]."""
    experts, bias = block.model.experts.num_experts, layout.bias(name)
    if layout.stacked:
        return block.parameter(bias, experts, rows)
    return np.stack([block.parameter(bias.format(expert=e), rows) for e in range(experts)])
