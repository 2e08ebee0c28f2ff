"""A router in the graph, in fp32 whatever the scheme: it decides, and its rounding would be felt by the whole layer.

docs/qmoe.md shows what each kind becomes in plain operators.
"""

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.arithmetic import soften
from moedge.export.graph.block import Block
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import RouterWeights, Routing
from moedge.export.graph.mixer_inputs import Vector
from moedge.export.model.config import Experts, Router
from moedge.quant.blocks import F32
from moedge.runtime.manifest import ROUTER


def route(block: Block, x: ir.Value, norm: str) -> Routing:
    """What the router of a layer says of hidden states [s, hidden_size] behind a norm, by its name in `TensorNames`."""
    names, config = block.model.names, block.model.experts
    experts, name = config.num_experts, block.place(names.router)
    matrix = block.read_norm_of(norm, block.matrix(name, experts, block.model.hidden_size))
    bias = correction = None
    if config.router.bias:
        full = f"{name}.bias"
        bias = Vector(full, block.parameter(full, experts), ROUTER)
    if config.router.correction_bias:
        full = block.place(names.correction_bias)
        correction = Vector(full, _correction_bias(block.checkpoint, full, experts), ROUTER)
    factors = None
    if config.router.expert_scale:
        full = block.place(names.expert_scale)
        factors = Vector(full, block.parameter(full, experts), ROUTER)
    return block.low.route(x, RouterWeights(f"{name}.weight", matrix, bias, correction, factors), config)


def plain_routing(b: Builder, x: ir.Value, weights: RouterWeights, config: Experts) -> Routing:
    """See `Lowering.route`, in plain operators."""
    router, top_k = config.router, config.num_experts_per_tok
    inputs = [x, weights.store(b)]
    if weights.bias:
        inputs.append(weights.bias.store(b))
    logits = b.op("Gemm", *inputs, attributes={"transB": 1}, output=b.full_name("router_logits"))
    logits = soften(b, logits, router.softcap)
    if router.scoring == "sparsemixer":
        return Routing(logits, _sparsemixer(b, logits, top_k, router.jitter_eps), router.scale)
    if router.weighs_by_logits:
        return Routing(logits, None, router.scale)
    scores = _sigmoid(b, logits) if router.scoring == "sigmoid" else b.op("Softmax", logits, attributes={"axis": -1})
    # alone, logits rank as scores do, also where those are all 0 or 1 in fp32
    select = scores if weights.correction or router.n_group > 1 else logits
    if weights.correction:
        select = b.op("Add", scores, weights.correction.store(b), output=b.full_name("selection_scores"))
    if router.n_group > 1:
        select = _best_groups(b, select, router, config.num_experts)
    if router.normalize:
        scores = _normalize(b, select, scores, router, top_k)
    scores = scale_experts(b, scores, weights)
    return Routing(select, scores, router.scale)


def scale_experts(b: Builder, scores: ir.Value, weights: RouterWeights) -> ir.Value:
    """What each expert would count, times its own number if there are any."""
    return b.op("Mul", scores, weights.expert_scale.store(b)) if weights.expert_scale else scores


def _sigmoid(b: Builder, logits: ir.Value) -> ir.Value:
    """1 / (1 + exp(-logits)): ONNX Runtime's Sigmoid is right to 6e-8 and not in proportion, which a division shows."""
    return b.op("Reciprocal", b.op("Add", b.op("Exp", b.op("Neg", logits)), b.constant(np.array(1, np.float32))))


def _normalize(b: Builder, select: ir.Value, scores: ir.Value, router: Router, top_k: int) -> ir.Value:
    """The scores over the chosen ones' sum, here and not in QMoE, which knows neither norm_eps nor norm_min."""
    _, chosen = b.ops("TopK", select, b.ints(top_k), attributes={"axis": -1}, outputs=2)
    weights = b.op("GatherElements", scores, chosen, attributes={"axis": 1})
    total = b.op("ReduceSum", weights, b.ints(-1), attributes={"keepdims": 1})  # [s, 1]
    if router.norm_eps:
        total = b.op("Add", total, b.constant(np.array(router.norm_eps, np.float32)))
    if router.norm_min:
        total = b.op("Max", total, b.constant(np.array(router.norm_min, np.float32)))
    return b.op("Div", scores, total)


def _correction_bias(checkpoint: Checkpoint, name: str, experts: int) -> F32:
    """[experts], which ERNIE keeps as one row [1, experts]."""
    one_row = name in checkpoint and len(checkpoint.shape(name)) == 2
    return checkpoint.read_parameter(name, *((1, experts) if one_row else (experts,))).reshape(-1)


def _best_groups(b: Builder, select: ir.Value, router: Router, experts: int) -> ir.Value:
    """-inf for every expert outside the `topk_group` groups whose best experts score highest."""
    size = experts // router.n_group
    grouped = b.op("Reshape", select, b.ints(0, router.n_group, size))  # [s, groups, size]
    best = min(2 if router.group_score == "top2" else 1, size)
    values, _ = b.ops("TopK", grouped, b.ints(best), attributes={"axis": -1}, outputs=2)
    sums = b.op("ReduceSum", values, b.ints(-1), attributes={"keepdims": 0})  # [s, groups]
    top, _ = b.ops("TopK", sums, b.ints(router.topk_group), attributes={"axis": -1}, outputs=2)
    least = b.op("Slice", top, b.ints(router.topk_group - 1), b.ints(router.topk_group), b.ints(-1))  # [s, 1]
    outside = b.op("Unsqueeze", b.op("Less", sums, least), b.ints(-1))  # [s, groups, 1]
    masked = b.op("Where", outside, b.constant(np.array(-np.inf, np.float32)), grouped)
    return b.op("Reshape", masked, b.ints(0, experts), output=b.full_name("selection_scores_in_groups"))


def _sparsemixer(b: Builder, logits: ir.Value, top_k: int, jitter_eps: float) -> ir.Value:
    """[s, experts]: for each of the top k the softmax, at it, over those left that are relatively close to it.

    close: (best - logit) / max(|logit|, best) ≤ 2 · jitter_eps, where best is the largest logit that is left.
    """
    lowest, twice = (b.constant(np.array(v, np.float32)) for v in (-np.inf, 2 * jitter_eps))
    magnitude, left = b.op("Abs", logits), logits
    weights: ir.Value | None = None
    for _ in range(top_k):
        best = b.op("ReduceMax", left, b.ints(-1), attributes={"keepdims": 1})  # [s, 1]
        distance = b.op("Div", b.op("Sub", best, logits), b.op("Max", magnitude, best))
        far = b.op("Greater", distance, twice)
        shares = b.op("Softmax", b.op("Where", far, lowest, left), attributes={"axis": -1})
        chosen = b.op("Equal", left, best)
        weights = shares if weights is None else b.op("Where", chosen, shares, weights)
        left = b.op("Where", chosen, lowest, left)
    if weights is None:
        raise AssertionError("a router chooses at least one expert")
    return weights
