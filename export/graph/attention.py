"""What mixes tokens in a layer: grouped-query attention; latent attention and convolution have files of their own."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.convolution import short_convolution
from moedge.export.graph.latent import latent_attention
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.graph.projections import ATTENTION, Order, add_bias, output_projection, vector_norm
from moedge.export.model.config import GroupedQuery, ModelConfig, MultiHeadLatent


def attention(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, layer: int, x: ir.Value, where: Positions
) -> ir.Value:
    """What layer `layer` adds to its normed hidden states x [s, hidden_size] from other tokens."""
    if model.convolution is not None and layer in model.convolution.layers:
        return short_convolution(low, checkpoint, model, model.convolution, layer, x)
    name = model.names.attention.format(layer=layer)
    with low.builder.scope(name):
        if isinstance(model.attention, MultiHeadLatent):
            return latent_attention(low, checkpoint, model, model.attention, layer, name, x, where)
        return _grouped(low, checkpoint, model, model.attention, layer, name, x, where)


def _grouped(
    low: Lowering,
    ckpt: Checkpoint,
    model: ModelConfig,
    config: GroupedQuery,
    layer: int,
    name: str,
    x: ir.Value,
    where: Positions,
) -> ir.Value:
    b, dim = low.builder, config.head_dim
    heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    parts = {f"{name}.{p}_proj": n * dim for p, n in zip("qkv", heads, strict=True)}
    matrices = [open_matrix(ckpt, part, (rows, model.hidden_size)) for part, rows in parts.items()]
    orders: list[Order] = [None, None, None]
    if model.rope.interleaved:
        orders[:2] = (_paired(n, config, model) for n in heads[:2])
    weights = [m if order is None else Reordered(m, order) for m, order in zip(matrices, orders, strict=True)]
    joined = low.linear("qkv_proj", x, stack(weights), ATTENTION)
    if config.bias:
        joined = add_bias(low, ckpt, joined, "qkv_proj", parts, orders)
    q, k, v = b.ops("Split", joined, b.ints(*parts.values()), attributes={"axis": -1}, outputs=3)
    if config.qk_norm == "whole":
        q = _qk_norm(low, ckpt, model, name, "q", q, config.num_heads * dim)
        k = _qk_norm(low, ckpt, model, name, "k", k, config.num_kv_heads * dim)
    if config.clip is not None:
        bounds = [b.constant(np.array(v, np.float32)) for v in (-config.clip, config.clip)]
        q, k, v = (b.op("Clip", t, *bounds) for t in (q, k, v))
    q, k, v = (b.op("Reshape", t, b.ints(0, n, dim)) for t, n in zip((q, k, v), heads, strict=True))  # [s, heads, dim]
    if config.qk_norm == "head":
        q = _qk_norm(low, ckpt, model, name, "q", q, dim)
        k = _qk_norm(low, ckpt, model, name, "k", k, dim)
    sinks = None
    if config.sinks:
        sinks = b.vector(f"{name}.sinks", ckpt.read_parameter(f"{name}.sinks", config.num_heads), ATTENTION)
    out = low.grouped_query(layer, (q, k, v), config, model.rope, sinks, where)
    return output_projection(low, ckpt, model, name, out, config.num_heads * dim, config.output_bias)


def _paired(heads: int, config: GroupedQuery, model: ModelConfig) -> NDArray[np.int64]:
    """The order of rows that turns neighbouring rotary pairs into halves."""
    if model.rope.dim != config.head_dim:
        raise AssertionError("no family rotates neighbours in a part of a head")
    return halves_order(heads, 0, model.rope.dim)


def _qk_norm(
    low: Lowering, ckpt: Checkpoint, model: ModelConfig, name: str, which: str, x: ir.Value, width: int
) -> ir.Value:
    part = model.names.q_norm if which == "q" else model.names.k_norm
    return vector_norm(low, ckpt, f"{name}.{part}.weight", x, width, model.norm_eps)
