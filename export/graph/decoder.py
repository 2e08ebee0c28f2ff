"""A decoder as a list of blocks between an embedding and a head. See docs/graph.md.

A graph may hold any run of them: it then takes hidden states, or gives them, at its open ends.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import FLOAT, normalize, scale
from moedge.export.graph.block import Block, read_norm
from moedge.export.graph.channels import Channels
from moedge.export.graph.lowering import Lowering, Norm, Positions
from moedge.export.graph.mixers import mix
from moedge.export.graph.mlp import dense_mlp
from moedge.export.graph.moe import moe_layer
from moedge.export.model.config import ModelConfig
from moedge.runtime.manifest import LM_HEAD

INT64 = ir.TensorType(ir.DataType.INT64)


@dataclass(frozen=True)
class Hidden:
    """Hidden states [s, hidden_size] between two blocks: `x`, and what is still to be added to it."""

    x: ir.Value
    delta: ir.Value | None = None


def build_decoder(
    low: Lowering,
    checkpoint: Checkpoint,
    model: ModelConfig,
    context: int,
    on_layer: Callable[[int], None] = lambda _: None,
    begin: int | None = None,
    end: int | None = None,
    channels: Channels | None = None,
) -> ir.Graph:
    """The graph of a checkpoint's decoder, its weights written on the way.

    With `begin` or `end`, only of layers begin:end. Without `begin` it has the embedding and takes `input_ids` [1, s],
    else `hidden_states` [1, s, hidden_size]. Without `end` it has the head and gives `logits`, else `last_hidden_state`
    [1, s, hidden_size].
    `on_layer` is called with each layer's number before it is built, and with the number of layers before the head;
    it may set factors of `channels` then.
    """
    b, embeds, whole = low.builder, begin is None, end is None
    channels = channels or Channels()
    mask = ir.Value(name="attention_mask", type=INT64, shape=ir.Shape([1, "total_length"]))
    inputs = [_input(model, embeds), mask]
    if whole:
        inputs.append(b.initializer(ir.tensor(np.array(1, np.int64), name="logits_to_keep")))
    layers = range(begin or 0, model.num_hidden_layers if end is None else end)
    where = low.positions(mask, inputs[0], [model.mixers[layer] for layer in layers], context)
    hidden = _begin(low, checkpoint, model, inputs[0], embeds)
    for layer in layers:
        on_layer(layer)
        low.layer = layer
        hidden = build_block(Block(low, checkpoint, model, layer, channels), hidden, where)
    low.layer = None
    x = hidden.x if hidden.delta is None else b.op("Add", hidden.x, hidden.delta)
    if whole:
        on_layer(model.num_hidden_layers)
        out = _head(low, checkpoint, model, x, inputs[2], model.tie_word_embeddings and embeds, channels)
    else:
        out = b.op("Unsqueeze", x, b.ints(0), output="last_hidden_state")
        out.type, out.shape = FLOAT, ir.Shape([1, "sequence_length", model.hidden_size])
    inputs += [port.past for port in low.cache]
    return b.graph(inputs, [out, *(port.present for port in low.cache)], model.model_type)


def build_block(block: Block, hidden: Hidden, where: Positions) -> Hidden:
    """One layer: a mixer and a gated MLP, dense or Mixture-of-Experts, each behind a norm and added to what it read."""
    low, model, names = block.low, block.model, block.model.names
    residual = model.multipliers.residual
    normed, x = _add_norm(low, hidden, block.norm(names.input_norm))
    mixed = scale(low.builder, mix(block, normed, where), residual)
    normed, x = _add_norm(low, Hidden(x, mixed), block.norm(names.post_attention_norm))
    with low.builder.scope(block.place(names.mlp)):
        out = moe_layer(block, normed) if block.layer in model.moe_layers else dense_mlp(block, normed)
    return Hidden(x, scale(low.builder, out, residual))


def _add_norm(low: Lowering, hidden: Hidden, norm: Norm) -> tuple[ir.Value, ir.Value]:
    """The normalized hidden states, and themselves."""
    if hidden.delta is None:
        return normalize(low.builder, hidden.x, norm), hidden.x
    return low.add_norm(hidden.x, hidden.delta, norm)


def _input(model: ModelConfig, embeds: bool) -> ir.Value:
    if embeds:
        return ir.Value(name="input_ids", type=INT64, shape=ir.Shape([1, "sequence_length"]))
    return ir.Value(name="hidden_states", type=FLOAT, shape=ir.Shape([1, "sequence_length", model.hidden_size]))


def _begin(low: Lowering, checkpoint: Checkpoint, model: ModelConfig, given: ir.Value, embeds: bool) -> Hidden:
    """What the first of the layers reads."""
    if not embeds:
        return Hidden(low.builder.op("Squeeze", given, low.builder.ints(0)))
    table = open_matrix(checkpoint, model.names.embedding, (model.vocab_size, model.hidden_size))
    rows = low.embedding(given, table, model.tie_word_embeddings)
    return Hidden(scale(low.builder, rows, model.multipliers.embedding))


def _head(
    low: Lowering,
    checkpoint: Checkpoint,
    model: ModelConfig,
    x: ir.Value,
    keep: ir.Value,
    tied: bool,
    channels: Channels,
) -> ir.Value:
    """Logits of the last `keep` hidden states; `tied`: by the embedding table that this graph holds."""
    b, names = low.builder, model.names
    kept = b.op("Slice", x, b.op("Reshape", b.op("Neg", keep), b.ints(1)), b.ints(2**62), b.ints(0))
    normed = normalize(b, kept, read_norm(low, checkpoint, model, names.final_norm, channels))
    name = names.embedding if model.tie_word_embeddings else names.lm_head
    shape = model.vocab_size, model.hidden_size
    head = low.head(normed, None if tied else open_matrix(checkpoint, name, shape))
    if model.lm_head_bias:
        name = f"{names.lm_head}.bias"
        head = b.op("Add", head, b.vector(name, checkpoint.read_parameter(name, model.vocab_size), LM_HEAD))
    head = scale(b, head, 1 / model.multipliers.logits_divisor)
    logits = b.op("Unsqueeze", head, b.ints(0), output="logits")
    logits.type, logits.shape = FLOAT, ir.Shape([1, "logits_to_keep", model.vocab_size])
    return logits
