"""A decoder as a list of blocks between an embedding and a head. See docs/graph.md.

A graph may hold any run of them: it then takes hidden states, or gives them, at its open ends.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import FLOAT, normalize, scale, soften
from moedge.export.graph.block import Block, read_norm
from moedge.export.graph.channels import Channels
from moedge.export.graph.inputs import INT64
from moedge.export.graph.lowering import Lowering, Norm, Positions
from moedge.export.graph.mixers import mix
from moedge.export.graph.mlp import dense_mlp
from moedge.export.graph.moe import experts_beside, moe_layer
from moedge.export.model.config import ModelConfig
from moedge.export.model.recurrent import Recurrent
from moedge.runtime.manifest import LM_HEAD


@dataclass(frozen=True)
class Hidden:
    """Hidden states [s, hidden_size] between two blocks: `x`, and what is still to be added to it.

    Where a model multiplies by a residual factor m what each block adds, they are kept divided by m. No block needs a
    product then, and norms give the same once their epsilon is divided by m²: see `read_norm`.
    """

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
    tokens = _input(model, embeds)
    layers = range(begin or 0, model.num_hidden_layers if end is None else end)
    states = any(isinstance(model.mixers[layer], Recurrent) for layer in layers)
    inputs = [tokens, *low.graph_inputs.open(b, whole, states)]
    where = low.positions(tokens, [model.mixers[layer] for layer in layers], context)
    hidden = _begin(low, checkpoint, model, tokens, embeds)
    for layer in layers:
        on_layer(layer)
        low.layer = layer
        hidden = build_block(Block(low, checkpoint, model, layer, channels), hidden, where)
    low.layer = None
    x = hidden.x if hidden.delta is None else b.op("Add", hidden.x, hidden.delta)
    if whole:
        on_layer(model.num_hidden_layers)
        out = _head(low, checkpoint, model, x, model.tie_word_embeddings and embeds, channels)
    else:
        out = b.op("Unsqueeze", x, b.ints(0), output="last_hidden_state")
        out.type, out.shape = FLOAT, ir.Shape([1, "sequence_length", model.hidden_size])
    inputs += [port.past for port in low.cache]
    return b.graph(inputs, [out, *(port.present for port in low.cache)], model.model_type)


def build_block(block: Block, hidden: Hidden, where: Positions) -> Hidden:
    """One layer: a mixer and an MLP, dense or Mixture-of-Experts, each behind a norm and added to what it read."""
    low, model, names = block.low, block.model, block.model.names
    if block.mixer is not None:
        normed, x = _add_norm(low, hidden, block.norm(names.input_norm))
        hidden = Hidden(x, block.norm_after(names.after_mixer, mix(block, normed, where)))
        if model.block == "parallel":
            return Hidden(low.builder.op("Add", x, hidden.delta), _mlp(block, normed))
    if block.layer in model.bare_layers:
        return hidden
    normed, x = _add_norm(low, hidden, block.norm(names.post_attention_norm))
    out = experts_beside(block, normed, x) if model.block == "both" else _mlp(block, normed)
    return _scale_layer(block, Hidden(x, block.norm_after(names.after_mlp, out)))


def _mlp(block: Block, x: ir.Value) -> ir.Value:
    with block.builder.scope(block.place(block.model.names.mlp)):
        return moe_layer(block, x) if block.layer in block.model.moe_layers else dense_mlp(block, x)


def _scale_layer(block: Block, hidden: Hidden) -> Hidden:
    """Both parts times the layer's own number, if it has one."""
    name = block.place(block.model.names.layer_scalar)
    if not name or (factor := float(block.parameter(name, 1)[0])) == 1.0:
        return hidden
    if hidden.delta is None:
        raise AssertionError("a layer adds something")
    return Hidden(scale(block.builder, hidden.x, factor), scale(block.builder, hidden.delta, factor))


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
    return Hidden(scale(low.builder, rows, model.multipliers.embedding / model.multipliers.residual))


def _head(
    low: Lowering,
    checkpoint: Checkpoint,
    model: ModelConfig,
    x: ir.Value,
    tied: bool,
    channels: Channels,
) -> ir.Value:
    """Logits of those hidden states that they are wanted of; `tied`: by the embedding table that this graph holds.

    What divides the logits divides the norm that is multiplied to them.
    """
    b, names, share = low.builder, model.names, 1 / model.multipliers.logits_divisor
    wanted = low.graph_inputs.pick(b, x)
    normed = normalize(b, wanted, read_norm(low, checkpoint, model, names.final_norm, channels, share))
    name = names.embedding if model.tie_word_embeddings else names.lm_head
    shape = model.vocab_size, model.hidden_size
    head = low.head(normed, None if tied else open_matrix(checkpoint, name, shape))
    if model.lm_head_bias:
        name = f"{names.lm_head}.bias"
        bias = checkpoint.read_parameter(name, model.vocab_size) * np.float32(share)
        head = b.op("Add", head, b.vector(name, bias, LM_HEAD))
    head = soften(b, head, model.logits_softcap)
    logits = b.op("Unsqueeze", head, b.ints(0), output="logits")
    logits.type, logits.shape = FLOAT, ir.Shape([1, low.graph_inputs.wanted, model.vocab_size])
    return logits
