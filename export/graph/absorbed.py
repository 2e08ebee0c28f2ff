"""Latent attention in plain operators, with the up-projections absorbed: what all lowerings but the native one write.

    q·k = (q W_uk)·c,    sum p v = (sum p c) W_uv
for one latent row c a token, so that the cache holds only c beside the rotated part of the key: kv_lora_rank +
qk_rope_head_dim numbers a token.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from moedge.export.graph.arithmetic import attend, give_present, rms_norm, rows_port
from moedge.export.graph.lowering import Lowering, Positions
from moedge.export.graph.mixer_inputs import Latents
from moedge.export.model.config import MultiHeadLatent


def absorbed_latent(
    low: Lowering,
    layer: int,
    latents: Latents,
    config: MultiHeadLatent,
    where: Positions,
    on_latent: Callable[[ir.Value], None] = lambda _: None,
) -> ir.Value:
    """See `Lowering.latent`. `on_latent` is told the normed rows [s, rank], which the up-projection reads."""
    b, heads = low.builder, config.num_heads
    nope, rotary, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    sizes = b.ints(latents.query_width, rank, rotary)
    q, latent, k_rot = b.ops("Split", latents.joined, sizes, attributes={"axis": -1}, outputs=3)
    q = b.op("Reshape", latents.query(q), b.ints(0, heads, nope + rotary))
    q_nope, q_rot = b.ops("Split", q, b.ints(nope, rotary), attributes={"axis": -1}, outputs=2)
    up_keys, up_values = latents.absorbed()
    q_nope = b.op("MatMul", b.op("Transpose", q_nope, attributes={"perm": [1, 0, 2]}), up_keys)  # [heads, s, rank]
    q_rot = b.op("Transpose", low.rope(q_rot, heads, config.rope, where), attributes={"perm": [1, 0, 2]})
    q = b.op("Concat", q_nope, q_rot, attributes={"axis": -1})  # [heads, s, latent_width]
    q = b.op("Mul", q, b.constant(np.array(config.scale, np.float32)))
    q = b.op("Reshape", q, b.ints(1, -1, config.latent_width))  # [1, heads * s, latent_width]
    k_rot = low.rope(b.op("Reshape", k_rot, b.ints(0, 1, rotary)), 1, config.rope, where)
    latent = rms_norm(b, latent, latents.norm.store(b), config.latent_norm_eps)
    on_latent(latent)
    row = b.op("Concat", latent, b.op("Reshape", k_rot, b.ints(0, rotary)), attributes={"axis": -1})
    past, tensor = rows_port(layer, "latent", config.latent_width)
    rows = (past, give_present(b, low.cache, past, tensor, row))
    out = attend(b, q, rows, rows, where, where.mask(config))  # [1, heads * s, latent_width]
    mixed = b.op("Slice", out, b.ints(0), b.ints(rank), b.ints(-1))
    shape = b.op("Concat", b.ints(heads), where.new_length, b.ints(rank), attributes={"axis": 0})
    values = b.op("MatMul", b.op("Reshape", mixed, shape), up_values)  # [heads, s, v]
    by_token = b.op("Transpose", values, attributes={"perm": [1, 0, 2]})
    return b.op("Reshape", by_token, b.ints(0, heads * config.v_head_dim))
