"""A whole decoder, layer by layer: embedding, attention, dense or Mixture-of-Experts MLP, head. See docs/graph.md."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import FLOAT, normalize, scale
from moedge.export.graph.attention import attention
from moedge.export.graph.lowering import Lowering, Norm
from moedge.export.graph.mlp import mlp
from moedge.export.graph.moe import expert_layer
from moedge.export.model.config import ModelConfig

INT64 = ir.TensorType(ir.DataType.INT64)


def build_decoder(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, context: int, on_layer: Callable[[int], None]
) -> ir.Graph:
    """The graph of a checkpoint's decoder, its weights written on the way.

    `on_layer` hears of each layer begun, and of the head as if it were one layer more.
    """
    b, names, by = low.builder, model.names, model.multipliers
    input_ids = ir.Value(name="input_ids", type=INT64, shape=ir.Shape([1, "sequence_length"]))
    mask = ir.Value(name="attention_mask", type=INT64, shape=ir.Shape([1, "total_length"]))
    keep = b.initializer(ir.tensor(np.array(1, np.int64), name="logits_to_keep"))
    where = low.positions(mask, input_ids, model, context)
    table_shape = model.vocab_size, model.hidden_size
    x = low.embedding(input_ids, open_matrix(checkpoint, names.embedding, table_shape), model.tie_word_embeddings)
    x = scale(b, x, by.embedding)
    normed = normalize(b, x, _norm(low, checkpoint, model, names.input_norm.format(layer=0)))
    for layer in range(model.num_hidden_layers):
        on_layer(layer)
        mixed = scale(b, attention(low, checkpoint, model, layer, normed, where), by.residual)
        after = _norm(low, checkpoint, model, names.post_attention_norm.format(layer=layer))
        normed, x = low.add_norm(x, mixed, after)
        with b.scope(names.mlp.format(layer=layer)):
            if layer in model.moe_layers:
                out = expert_layer(low, checkpoint, model, layer, normed)
            else:
                module = names.mlp.format(layer=layer)
                out = mlp(low, checkpoint, model, module, model.intermediate_size, normed, "dense mlp")
        out = scale(b, out, by.residual)
        if layer + 1 < model.num_hidden_layers:
            following = _norm(low, checkpoint, model, names.input_norm.format(layer=layer + 1))
            normed, x = low.add_norm(x, out, following)
        else:
            x = b.op("Add", x, out)
    on_layer(model.num_hidden_layers)
    kept = b.op("Slice", x, b.op("Reshape", b.op("Neg", keep), b.ints(1)), b.ints(2**62), b.ints(0))
    normed = normalize(b, kept, _norm(low, checkpoint, model, names.final_norm))
    head = low.head(normed, None if model.tie_word_embeddings else open_matrix(checkpoint, names.lm_head, table_shape))
    if model.lm_head_bias:
        name = f"{names.lm_head}.bias"
        head = b.op("Add", head, b.vector(name, checkpoint.read_parameter(name, model.vocab_size), "lm_head"))
    head = scale(b, head, 1 / by.logits_divisor)
    logits = b.op("Unsqueeze", head, b.ints(0), output="logits")
    logits.type, logits.shape = FLOAT, ir.Shape([1, "logits_to_keep", model.vocab_size])
    inputs = [input_ids, mask, keep, *(port.past for port in low.cache)]
    return b.graph(inputs, [logits, *(port.present for port in low.cache)], model.model_type)


def _norm(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, name: str) -> Norm:
    def part(which: str) -> ir.Value:
        full = f"{name}.{which}"
        return low.builder.vector(full, checkpoint.read_parameter(full, model.hidden_size), "norms")

    return Norm(part("weight"), part("bias") if model.norm == "layer" else None, model.norm_eps)
