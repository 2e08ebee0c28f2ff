"""Multi-head latent attention, with the up-projections absorbed.

Keys and values of all heads are linear in one latent row c (DeepSeek-V2, arXiv:2405.04434), so
    q·k = (q W_uk)·c,    sum p v = (sum p c) W_uv,
and the cache holds only c beside the rotated part of the key: kv_lora_rank + qk_rope_head_dim numbers a token.
"""

from functools import cache

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.arithmetic import attend, give_present, rows_port
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.graph.projections import ATTENTION as GROUP
from moedge.export.graph.projections import output_projection, vector_norm
from moedge.export.graph.storing import read_whole
from moedge.export.model.config import ModelConfig, MultiHeadLatent
from moedge.quant.scheme import FP32


def latent_attention(
    low: Lowering,
    ckpt: Checkpoint,
    model: ModelConfig,
    config: MultiHeadLatent,
    layer: int,
    name: str,
    x: ir.Value,
    where: Positions,
) -> ir.Value:
    """Self-attention of layer `layer`, whose module is `name`, over normed hidden states x [s, hidden_size]."""
    b, heads = low.builder, config.num_heads
    nope, rotary, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    hidden = model.hidden_size
    down = _halved(ckpt, f"{name}.kv_a_proj_with_mqa", hidden, 1, rank, rotary, model)
    if config.q_lora_rank is None:
        first, width = _halved(ckpt, f"{name}.q_proj", hidden, heads, nope, rotary, model), heads * (nope + rotary)
    else:
        first, width = open_matrix(ckpt, f"{name}.q_a_proj", (config.q_lora_rank, hidden)), config.q_lora_rank
    joined = low.linear("q_kv_a_proj", x, stack([first, down]), GROUP)
    if config.bias:
        joined = _latent_bias(low, ckpt, joined, name, config, model)
    q, latent, k_rot = b.ops("Split", joined, b.ints(width, rank, rotary), attributes={"axis": -1}, outputs=3)
    if config.q_lora_rank is not None:
        q = vector_norm(low, ckpt, f"{name}.q_a_layernorm.weight", q, width, config.latent_norm_eps)
        up = _halved(ckpt, f"{name}.q_b_proj", width, heads, nope, rotary, model)
        q = low.linear("q_b_proj", q, up, GROUP)
    q = b.op("Reshape", q, b.ints(0, heads, nope + rotary))
    q_nope, q_rot = b.ops("Split", q, b.ints(nope, rotary), attributes={"axis": -1}, outputs=2)
    up_keys, up_values = _absorbed(low, ckpt, name, config)
    q_nope = b.op("MatMul", b.op("Transpose", q_nope, attributes={"perm": [1, 0, 2]}), up_keys)  # [heads, s, rank]
    q_rot = b.op("Transpose", low.rope(q_rot, heads, model.rope, where), attributes={"perm": [1, 0, 2]})
    q = b.op("Concat", q_nope, q_rot, attributes={"axis": -1})  # [heads, s, latent_width]
    q = b.op("Mul", q, b.constant(np.array(config.scale, np.float32)))
    q = b.op("Reshape", q, b.ints(1, -1, config.latent_width))  # [1, heads * s, latent_width]
    k_rot = low.rope(b.op("Reshape", k_rot, b.ints(0, 1, rotary)), 1, model.rope, where)
    latent = vector_norm(low, ckpt, f"{name}.kv_a_layernorm.weight", latent, rank, config.latent_norm_eps)
    row = b.op("Concat", latent, b.op("Reshape", k_rot, b.ints(0, rotary)), attributes={"axis": -1})
    past, tensor = rows_port(layer, "latent", config.latent_width)
    rows = (past, give_present(b, low.cache, past, tensor, row))
    out = attend(b, q, rows, rows, where, where.causal)  # [1, heads * s, latent_width]
    mixed = b.op("Slice", out, b.ints(0), b.ints(rank), b.ints(-1))
    shape = b.op("Concat", b.ints(heads), where.new_length, b.ints(rank), attributes={"axis": 0})
    values = b.op("MatMul", b.op("Reshape", mixed, shape), up_values)  # [heads, s, v]
    out = b.op(
        "Reshape", b.op("Transpose", values, attributes={"perm": [1, 0, 2]}), b.ints(0, heads * config.v_head_dim)
    )
    return output_projection(low, ckpt, model, name, out, heads * config.v_head_dim, config.bias)


def _absorbed(low: Lowering, ckpt: Checkpoint, name: str, config: MultiHeadLatent) -> tuple[ir.Value, ir.Value]:
    """W_uk [heads, nope, rank] and W_uv [heads, rank, v] out of kv_b_proj [heads * (nope + v), rank], kept in fp32."""
    nope, rank = config.qk_nope_head_dim, config.kv_lora_rank
    heads, wide = config.num_heads, config.v_head_dim
    matrix = open_matrix(ckpt, f"{name}.kv_b_proj", (heads * (nope + wide), rank))

    @cache
    def parts() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight = read_whole(matrix).reshape(heads, nope + wide, rank)
        return weight[:, :nope], weight[:, nope:].transpose(0, 2, 1)

    low.builder.weights.origins.add(GROUP, (matrix,), FP32)
    full = f"{name}.kv_b_proj"
    return (
        low.builder.read_matrix(f"{full}.keys", (heads, nope, rank), lambda: parts()[0], GROUP),
        low.builder.read_matrix(f"{full}.values", (heads, rank, wide), lambda: parts()[1], GROUP),
    )


def _halved(
    ckpt: Checkpoint, name: str, columns: int, heads: int, plain: int, rotary: int, model: ModelConfig
) -> Matrix:
    """A projection to heads of `plain` and `rotary` rows, these paired as halves, whatever the checkpoint pairs."""
    matrix = open_matrix(ckpt, name, (heads * (plain + rotary), columns))
    return Reordered(matrix, halves_order(heads, plain, rotary)) if model.rope.interleaved else matrix


def _latent_bias(
    low: Lowering, ckpt: Checkpoint, joined: ir.Value, name: str, config: MultiHeadLatent, model: ModelConfig
) -> ir.Value:
    """Biases of the down-projections, in the order of the rows; without q_lora_rank the query has none."""
    heads, nope, rotary = config.num_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    down = ckpt.read_parameter(f"{name}.kv_a_proj_with_mqa.bias", config.latent_width)
    if model.rope.interleaved:
        down = down[halves_order(1, config.kv_lora_rank, rotary)]
    if config.q_lora_rank is None:
        first = np.zeros(heads * (nope + rotary), np.float32)
    else:
        first = ckpt.read_parameter(f"{name}.q_a_proj.bias", config.q_lora_rank)
    bias = low.builder.vector(f"{name}.q_kv_a_proj.bias", np.concatenate([first, down]), GROUP)
    return low.builder.op("Add", joined, bias)
