"""A Mixture-of-Experts layer: the router, the routed experts wherever the checkpoint keeps them, the shared ones."""

from collections.abc import Iterator

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_expert
from moedge.export.checkpoint.views import Interleaved, pick_rows
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import ExpertWeights
from moedge.export.graph.mlp import gated_mlp, mlp
from moedge.export.graph.routing import route
from moedge.export.graph.storing import store_whole
from moedge.runtime.manifest import ROUTER, SHARED_EXPERTS


def moe_layer(block: Block, x: ir.Value) -> ir.Value:
    """The routed experts' weighted sum and, where there are any, the shared experts, of hidden states x."""
    config, b = block.model.experts, block.builder
    routing = route(block, x)
    out = block.low.experts(x, routing, _open_experts(block), config)
    if not config.shared_intermediate_size:
        return out
    with b.scope("shared_experts"):
        always = _build_shared(block, x)
        if config.shared_gate:
            name = block.place(block.model.names.shared_gate)
            published = block.matrix(name, 1, block.model.hidden_size)
            weight = store_whole(b, f"{name}.weight", published, ROUTER)
            open_by = b.op("Sigmoid", b.op("Gemm", x, weight, attributes={"transB": 1}))  # [s, 1]
            always = b.op("Mul", always, open_by)
    return b.op("Add", out, always)


def _build_shared(block: Block, x: ir.Value) -> ir.Value:
    names, width, hidden = block.model.names, block.model.experts.shared_intermediate_size, block.model.hidden_size
    if not names.shared_gate_up:
        return mlp(block, block.place(names.shared_expert), width, x, SHARED_EXPERTS)
    gate_up = block.matrix(block.place(names.shared_gate_up), 2 * width, hidden)
    down = block.matrix(block.place(names.shared_down), hidden, width)
    return gated_mlp(block, x, gate_up, down, SHARED_EXPERTS)


def _open_experts(block: Block) -> ExpertWeights:
    names, config = block.model.names, block.model.experts
    inner, outer, count = config.intermediate_size, block.model.hidden_size, config.num_experts
    if names.layout == "separate":

        def each(part: str, rows: int, columns: int) -> Iterator[Matrix]:
            experts = (names.expert.format(layer=block.layer, expert=e) for e in range(count))
            return (block.matrix(f"{expert}.{part}", rows, columns) for expert in experts)

        pairs = zip(each(names.gate, inner, outer), each(names.up, inner, outer), strict=True)
        return ExpertWeights([Interleaved(*pair) for pair in pairs], [*each(names.down, outer, inner)])
    first, second = block.place(names.experts_gate_up), block.place(names.experts_down)
    turned = names.layout == "interleaved"
    gate_up = [open_expert(block.checkpoint, first, e, (2 * inner, outer), turned) for e in range(count)]
    down = [open_expert(block.checkpoint, second, e, (outer, inner), turned) for e in range(count)]
    if not turned:
        gate_up = [Interleaved(pick_rows(m, 0, inner), pick_rows(m, inner, 2 * inner)) for m in gate_up]
    if not config.bias:
        return ExpertWeights(gate_up, down)
    biases = block.parameter(f"{first}_bias", count, 2 * inner), block.parameter(f"{second}_bias", count, outer)
    return ExpertWeights(gate_up, down, *biases)
