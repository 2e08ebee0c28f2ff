"""A whole decoder, layer by layer: embedding, attention, dense or Mixture-of-Experts MLP, head. See docs/graph.md."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from moedge.export.arithmetic import FLOAT, rms_norm, swiglu
from moedge.export.attention import attention
from moedge.export.checkpoint import Checkpoint
from moedge.export.lowering import ExpertWeights, Lowering, Routing
from moedge.export.matrices import Stored, stack
from moedge.export.model_config import ModelConfig, MultiHeadLatent, Router

INT64 = ir.TensorType(ir.DataType.INT64)


def build_decoder(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, context: int, on_layer: Callable[[int], None]
) -> ir.Graph:
    """The graph of a checkpoint's decoder, its weights written on the way; `on_layer` hears of each layer begun."""
    b, names = low.builder, model.names
    input_ids = ir.Value(name="input_ids", type=INT64, shape=ir.Shape([1, "sequence_length"]))
    mask = ir.Value(name="attention_mask", type=INT64, shape=ir.Shape([1, "total_length"]))
    keep = b.initializer(ir.tensor(np.array(1, np.int64), name="logits_to_keep"))
    where = low.positions(mask, input_ids, model.rope, context, _heads_a_key(model))
    table_shape = model.vocab_size, model.hidden_size
    x = low.embedding(input_ids, Stored(checkpoint, names.embedding, table_shape), model.tie_word_embeddings)
    normed = rms_norm(b, x, _norm(low, checkpoint, model, names.input_norm.format(layer=0)), model.rms_norm_eps)
    for layer in range(model.num_hidden_layers):
        on_layer(layer)
        mixed = attention(low, checkpoint, model, layer, normed, where)
        after = _norm(low, checkpoint, model, names.post_attention_norm.format(layer=layer))
        normed, x = low.add_norm(x, mixed, after, model.rms_norm_eps)
        with b.scope(names.mlp.format(layer=layer)):
            out = (_experts if layer in model.moe_layers else _dense)(low, checkpoint, model, layer, normed)
        if layer + 1 < model.num_hidden_layers:
            following = _norm(low, checkpoint, model, names.input_norm.format(layer=layer + 1))
            normed, x = low.add_norm(x, out, following, model.rms_norm_eps)
        else:
            x = b.op("Add", x, out)
    kept = b.op("Slice", x, b.op("Reshape", b.op("Neg", keep), b.ints(1)), b.ints(2**62), b.ints(0))
    normed = rms_norm(b, kept, _norm(low, checkpoint, model, names.final_norm), model.rms_norm_eps)
    head = low.head(normed, None if model.tie_word_embeddings else Stored(checkpoint, names.lm_head, table_shape))
    logits = b.op("Unsqueeze", head, b.ints(0), output="logits")
    logits.type, logits.shape = FLOAT, ir.Shape([1, "logits_to_keep", model.vocab_size])
    inputs = [input_ids, mask, keep, *(port.past for port in low.cache)]
    return b.graph(inputs, [logits, *(port.present for port in low.cache)], model.model_type)


def _heads_a_key(model: ModelConfig) -> int:
    config = model.attention
    return config.num_heads if isinstance(config, MultiHeadLatent) else config.num_heads // config.num_kv_heads


def _norm(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, name: str) -> ir.Value:
    name = f"{name}.weight"
    return low.builder.vector(name, checkpoint.read_parameter(name, model.hidden_size), "norms")


def _dense(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value) -> ir.Value:
    name = model.names.mlp.format(layer=layer)
    return _mlp(low, checkpoint, model, name, model.intermediate_size, x, "dense mlp")


def _mlp(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, name: str, width: int, x: ir.Value, group: str
) -> ir.Value:
    """down(silu(gate x) * up x), gate and up as one product."""
    b, names = low.builder, model.names
    gate, up = (Stored(checkpoint, f"{name}.{part}", (width, model.hidden_size)) for part in (names.gate, names.up))
    down = Stored(checkpoint, f"{name}.{names.down}", (model.hidden_size, width))
    joined = low.linear("gate_up_proj", x, stack([gate, up]), group)
    halves = b.ops("Split", joined, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    return low.linear("down_proj", swiglu(b, *halves), down, group)


def _experts(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value) -> ir.Value:
    names, config = model.names, model.experts
    routing = _route(low, checkpoint, model, layer, x)

    inner, outer = config.intermediate_size, model.hidden_size

    def each(part: str, rows: int, columns: int) -> list[Stored]:
        experts = (names.expert.format(layer=layer, expert=e) for e in range(config.num_experts))
        return [Stored(checkpoint, f"{expert}.{part}", (rows, columns)) for expert in experts]

    weights = ExpertWeights(
        each(names.gate, inner, outer), each(names.up, inner, outer), each(names.down, outer, inner)
    )
    out = low.experts(x, routing, weights, config)
    if config.shared_intermediate_size:
        shared = names.shared_expert.format(layer=layer)
        with low.builder.scope("shared_experts"):
            always = _mlp(low, checkpoint, model, shared, config.shared_intermediate_size, x, "shared experts")
        out = low.builder.op("Add", out, always)
    return out


def _route(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value) -> Routing:
    """The router, in fp32 whatever the scheme: it decides, and its rounding would be felt by the whole layer."""
    b, names, config = low.builder, model.names, model.experts
    router = config.router
    name = f"{names.router.format(layer=layer)}.weight"
    weight = b.matrix(name, checkpoint.read_parameter(name, config.num_experts, model.hidden_size), "router")
    logits = b.op("Gemm", x, weight, attributes={"transB": 1}, output=b.scoped("router_logits"))
    if router.scoring == "softmax" and router.normalize and not router.correction_bias and router.n_group == 1:
        return Routing(logits, None, True, router.scale)  # softmax over the chosen equals renormalising
    if router.scoring == "sigmoid":
        scores = b.op("Sigmoid", logits)
    else:
        scores = b.op("Softmax", logits, attributes={"axis": -1})
    select = scores
    if router.correction_bias:
        bias_name = names.correction_bias.format(layer=layer)
        bias = b.vector(bias_name, checkpoint.read_parameter(bias_name, config.num_experts), "router")
        select = b.op("Add", scores, bias, output=b.scoped("selection_scores"))
    if router.n_group > 1:
        select = _best_groups(low, select, router, config.num_experts)
    return Routing(select, scores, router.normalize, router.scale)


def _best_groups(low: Lowering, select: ir.Value, router: Router, experts: int) -> ir.Value:
    """-inf for every expert outside the `topk_group` groups whose two best experts sum highest."""
    b = low.builder
    size = experts // router.n_group
    grouped = b.op("Reshape", select, b.ints(0, router.n_group, size))  # [s, groups, size]
    best, _ = b.ops("TopK", grouped, b.ints(min(2, size)), attributes={"axis": -1}, outputs=2)
    sums = b.op("ReduceSum", best, b.ints(-1), attributes={"keepdims": 0})  # [s, groups]
    top, _ = b.ops("TopK", sums, b.ints(router.topk_group), attributes={"axis": -1}, outputs=2)
    least = b.op("Slice", top, b.ints(router.topk_group - 1), b.ints(router.topk_group), b.ints(-1))  # [s, 1]
    outside = b.op("Unsqueeze", b.op("Less", sums, least), b.ints(-1))  # [s, groups, 1]
    masked = b.op("Where", outside, b.constant(np.array(-np.inf, np.float32)), grouped)
    return b.op("Reshape", masked, b.ints(0, experts), output=b.scoped("selection_scores_in_groups"))
