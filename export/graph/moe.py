"""A Mixture-of-Experts layer: the router, the routed experts wherever the checkpoint keeps them, the shared ones."""

import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_expert, open_matrix
from moedge.export.checkpoint.views import pick_rows
from moedge.export.graph.lowering import ExpertBiases, ExpertWeights, Lowering
from moedge.export.graph.mlp import gated_mlp, mlp
from moedge.export.graph.routing import route
from moedge.export.graph.storing import store_whole
from moedge.export.model.config import ModelConfig

SHARED = "shared experts"


def expert_layer(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value) -> ir.Value:
    """The routed experts' weighted sum and, where there are any, the shared experts, of hidden states x."""
    config = model.experts
    routing = route(low, checkpoint, model, layer, x)
    out = low.experts(x, routing, _weights(checkpoint, model, layer), config)
    if not config.shared_intermediate_size:
        return out
    b = low.builder
    with b.scope("shared_experts"):
        always = _shared(low, checkpoint, model, layer, x)
        if config.shared_gate:
            name = model.names.shared_gate.format(layer=layer)
            published = open_matrix(checkpoint, name, (1, model.hidden_size))
            weight = store_whole(b, f"{name}.weight", published, "router")
            open_by = b.op("Sigmoid", b.op("Gemm", x, weight, attributes={"transB": 1}))  # [s, 1]
            always = b.op("Mul", always, open_by)
    return b.op("Add", out, always)


def _shared(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value) -> ir.Value:
    names, width, hidden = model.names, model.experts.shared_intermediate_size, model.hidden_size
    if not names.shared_gate_up:
        return mlp(low, checkpoint, model, names.shared_expert.format(layer=layer), width, x, SHARED)
    gate_up = open_matrix(checkpoint, names.shared_gate_up.format(layer=layer), (2 * width, hidden))
    down = open_matrix(checkpoint, names.shared_down.format(layer=layer), (hidden, width))
    return gated_mlp(low, x, gate_up, down, SHARED)


def _weights(checkpoint: Checkpoint, model: ModelConfig, layer: int) -> ExpertWeights:
    names, config = model.names, model.experts
    inner, outer, count = config.intermediate_size, model.hidden_size, config.num_experts
    if names.layout == "separate":

        def each(part: str, rows: int, columns: int) -> list[Matrix]:
            experts = (names.expert.format(layer=layer, expert=e) for e in range(count))
            return [open_matrix(checkpoint, f"{expert}.{part}", (rows, columns)) for expert in experts]

        return ExpertWeights(
            each(names.gate, inner, outer), each(names.up, inner, outer), each(names.down, outer, inner)
        )
    first, second = names.experts_gate_up.format(layer=layer), names.experts_down.format(layer=layer)
    turned = names.layout == "interleaved"
    both = [open_expert(checkpoint, first, e, (2 * inner, outer), turned) for e in range(count)]
    down = [open_expert(checkpoint, second, e, (outer, inner), turned) for e in range(count)]
    if turned:
        gate, up = ([pick_rows(matrix, start, 2 * inner, 2) for matrix in both] for start in (0, 1))
    else:
        gate, up = ([pick_rows(matrix, start, start + inner, 1) for matrix in both] for start in (0, inner))
    biases = None
    if config.bias:
        joined = checkpoint.read_parameter(f"{first}_bias", count, 2 * inner)
        last = checkpoint.read_parameter(f"{second}_bias", count, outer)
        biases = ExpertBiases(joined[:, 0::2], joined[:, 1::2], last)
    return ExpertWeights(gate, up, down, biases)
