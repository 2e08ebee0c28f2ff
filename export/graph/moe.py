"""A Mixture-of-Experts layer: the router, the routed experts wherever the checkpoint keeps them, the shared ones."""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.errors import TensorError
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_expert, stand_in
from moedge.export.checkpoint.views import in_turn
from moedge.export.graph.arithmetic import rms_norm, scale
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import ExpertWeights, RouterWeights, Routing
from moedge.export.graph.mlp import dense_mlp, read_mlp
from moedge.export.graph.routing import route
from moedge.export.model.layouts import ExpertLayout, expect_stacked, find_experts
from moedge.quant.blocks import F32
from moedge.runtime.manifest import NORMS, SHARED_EXPERTS

_UP = slice(1, None, 2)  # of rows gate0, up0, gate1, up1, …


def moe_layer(block: Block, x: ir.Value) -> ir.Value:
    """The routed experts' weighted sum and, where there are any, the shared experts, of hidden states x."""
    config, names = block.model.experts, block.model.names
    out = _routed(block, x, route(block, x, names.post_attention_norm), names.post_attention_norm)
    if not config.shared_intermediate_size:
        return out
    gate, width = None, config.shared_intermediate_size
    weights = read_mlp(block, block.place(names.shared_expert), width, SHARED_EXPERTS)
    if config.shared_gate:
        name = block.place(names.shared_gate)
        published = block.matrix(name, 1, block.model.hidden_size)
        gate = RouterWeights(f"{name}.weight", block.read_norm_of(names.post_attention_norm, published))
    total = block.low.add_shared(x, out, weights, gate)
    return scale(block.builder, total, 0.5) if config.mean else total


def experts_beside(block: Block, normed: ir.Value, x: ir.Value) -> ir.Value:
    """A dense MLP of `normed`, and experts of x beside it, each between norms of its own."""
    names, b = block.model.names, block.builder
    with b.scope(block.place(names.mlp)):
        dense = block.norm_after(names.after_dense, dense_mlp(block, normed))
        if block.layer not in block.model.moe_layers:
            return dense
        routing = route(block, _router_norm(block, x), names.router_norm)
        routed = _routed(block, block.norm_after(names.experts_norm, x), routing, names.experts_norm)
    return b.op("Add", dense, block.norm_after(names.after_experts, routed))


def _router_norm(block: Block, x: ir.Value) -> ir.Value:
    """x over its root mean square, times what the router weighs each channel by, over the root of their number."""
    name, hidden = block.place(block.model.names.router_norm), block.model.hidden_size
    weight = block.channels.divide(name, block.parameter(name, hidden)) * np.float32(hidden**-0.5)
    return rms_norm(block.builder, x, block.builder.vector(name, weight, NORMS), block.model.norm_eps)


def _routed(block: Block, x: ir.Value, routing: Routing, norm: str) -> ir.Value:
    """The routed experts' weighted sum, of hidden states behind a norm."""
    config, low = block.model.experts, block.low
    if not config.latent_size:
        return low.experts(x, routing, open_experts(block, block.model.hidden_size, norm), config)
    down, up = (f"{block.place(block.model.names.moe)}.{name}" for name in block.model.names.latent_projections)
    hidden, latent = block.model.hidden_size, config.latent_size
    narrow = low.linear(
        "fc1_latent_proj", x, block.read_norm_of(norm, block.matrix(down, latent, hidden)), SHARED_EXPERTS
    )
    out = low.experts(narrow, routing, open_experts(block, latent, ""), config)
    return low.linear("fc2_latent_proj", out, block.matrix(up, hidden, latent), SHARED_EXPERTS)


def open_experts(block: Block, hidden: int, norm: str) -> ExpertWeights:
    """The routed experts of a layer, however the checkpoint lays them out.

    They read `hidden` channels, of the normalization that is called so in `TensorNames`, or of none.
    """
    config = block.model.experts
    layout = find_experts(block.checkpoint, block.model.names, block.layer)
    names, width = layout.projections, config.intermediate_size
    joint = len(names.gate_up) == 1
    rows = width if config.gate.matrices == 1 or not joint else 2 * width
    opened = [_open_each(block, layout, name, rows, hidden) for name in names.gate_up]
    if config.gate.matrices == 1:
        [gate_up] = opened
    elif not joint:
        gate_up = [in_turn(parts) for parts in zip(*opened, strict=True)]
    elif layout.in_turn:
        gate_up = opened[0]
    else:
        gate_up = [in_turn([matrix]) for matrix in opened[0]]
    if norm:
        gate_up = [block.read_norm_of(norm, matrix) for matrix in gate_up]
    down = _open_each(block, layout, names.down, hidden, width)
    writers = [matrix.name for matrix in down]
    if config.gate.scales_up:
        gate_up = [block.channels.write(w, matrix, _UP) for w, matrix in zip(writers, gate_up, strict=True)]
        down = [block.channels.read(w, matrix) for w, matrix in zip(writers, down, strict=True)]
    if not config.bias:
        return ExpertWeights(gate_up, down)
    biases = [_read_biases(block, layout, name, rows) for name in names.gate_up]
    if config.gate.matrices == 2 and not layout.in_turn:
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
