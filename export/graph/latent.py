"""Multi-head latent attention of a layer: its projections and what they read; what lies between is the lowering's.

Keys and values of all heads are linear in one latent row c a token (DeepSeek-V2, arXiv:2405.04434).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_planes
from moedge.export.checkpoint.views import Reordered, halves_order, stack
from moedge.export.graph.attention import open_output, project_out
from moedge.export.graph.block import Block
from moedge.export.graph.lowering import Positions
from moedge.export.graph.mixer_inputs import Latents, Vector
from moedge.export.graph.storing import read_finite
from moedge.export.model.config import MultiHeadLatent
from moedge.export.model.layouts import find_absorbed
from moedge.quant.blocks import F32
from moedge.runtime.manifest import ATTENTION


def latent_attention(block: Block, config: MultiHeadLatent, x: ir.Value, where: Positions) -> ir.Value:
    """Self-attention over normed hidden states x [s, hidden_size]."""
    b, low, heads = block.builder, block.low, config.num_heads
    nope, rotary, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    hidden, name = block.model.hidden_size, block.place(block.model.names.attention)
    with b.scope(name):
        down = _open_halved(block, config, f"{name}.kv_a_proj_with_mqa", hidden, 1, rank)
        if config.q_lora_rank is None:
            first, width = _open_halved(block, config, f"{name}.q_proj", hidden, heads, nope), heads * (nope + rotary)
        else:
            first, width = block.matrix(f"{name}.q_a_proj", config.q_lora_rank, hidden), config.q_lora_rank
        parts = [first, down]
        if config.gate:
            parts.append(block.matrix(f"{name}.{config.gate.module}", heads, hidden))
        parts = [block.read_norm_of(block.model.names.input_norm, matrix) for matrix in parts]
        bias = _read_bias(block, config, name) if config.bias else None
        joined, gate = low.linear("q_kv_a_proj", x, stack(parts), ATTENTION, bias), None
        if config.gate:
            sizes = b.ints(width + config.latent_width, heads)
            joined, gate = b.ops("Split", joined, sizes, attributes={"axis": -1}, outputs=2)

        def query(part: ir.Value) -> ir.Value:
            if config.q_lora_rank is None:
                return part
            norm = f"{name}.q_a_layernorm"
            q_b = _open_halved(block, config, f"{name}.q_b_proj", width, heads, nope)
            normed = block.rms_norm(norm, part, width, config.latent_norm_eps)
            return low.linear("q_b_proj", normed, block.channels.read(norm, q_b), ATTENTION)

        up = _Up(block, config, name)
        norm = block.norm_weight(f"{name}.kv_a_layernorm", rank)
        latents = Latents(joined, width, query, norm, up.full, up.join, up.absorb)
        out = low.latent(block.layer, latents, config, where)
        if config.gate and gate:
            out = low.open_gate(out, gate, config.gate, heads, config.v_head_dim)
        o_proj = block.channels.read(up.values, open_output(block, name, heads * config.v_head_dim))
        return project_out(block, name, out, o_proj, config.bias)


@dataclass(frozen=True)
class _Up:
    """The up-projection of an attention, kv_b_proj [heads * (nope + v), rank], or its two parts as MLX keeps them."""

    block: Block
    config: MultiHeadLatent
    name: str

    @property
    def full(self) -> str:
        """Its own name."""
        return f"{self.name}.kv_b_proj"

    @property
    def values(self) -> str:
        """What writes the values, of all heads, that the attention's output projection reads."""
        return f"{self.full}.values"

    def join(self) -> Matrix:
        """It as one matrix, of whose rows those of the values are divided as the output's columns are multiplied."""
        heads, nope, wide, rank = self._sizes
        if apart := find_absorbed(self.block.checkpoint, self.name):
            pairs = zip(*self._open_apart(*apart), strict=True)
            matrix = stack([part for pair in pairs for part in pair])
        else:
            matrix = self.block.matrix(self.full, heads * (nope + wide), rank)
        rows = np.arange(heads * (nope + wide)).reshape(heads, -1)[:, nope:].reshape(-1)
        return self.block.channels.write(self.values, matrix, rows)

    def absorb(self) -> tuple[ir.Value, ir.Value]:
        """W_uk [heads, nope, rank] and W_uv [heads, rank, v], kept in fp32."""
        heads, nope, wide, rank = self._sizes
        if apart := find_absorbed(self.block.checkpoint, self.name):
            return self._absorb_apart(*(stack(parts) for parts in self._open_apart(*apart)))
        matrix = self.block.matrix(self.full, heads * (nope + wide), rank)

        @cache
        def parts() -> tuple[F32, F32]:
            weight = read_finite(matrix, 0, matrix.shape[0]).reshape(heads, nope + wide, rank)
            return weight[:, :nope], self._divide(weight[:, nope:]).transpose(0, 2, 1)

        read = self.block.builder.read_matrix
        return (
            read(f"{self.full}.keys", (heads, nope, rank), lambda: parts()[0], ATTENTION, (matrix,)),
            read(f"{self.full}.values", (heads, rank, wide), lambda: parts()[1], ATTENTION),
        )

    def _absorb_apart(self, up_keys: Matrix, up_values: Matrix) -> tuple[ir.Value, ir.Value]:
        heads, nope, wide, rank = self._sizes

        def read_values() -> F32:
            weight = read_finite(up_values, 0, heads * wide).reshape(heads, wide, rank)
            return self._divide(weight).transpose(0, 2, 1)

        def read_keys() -> F32:
            return read_finite(up_keys, 0, heads * nope).reshape(heads, nope, rank)

        read = self.block.builder.read_matrix
        return (
            read(f"{self.full}.keys", (heads, nope, rank), read_keys, ATTENTION, (up_keys,)),
            read(f"{self.full}.values", (heads, rank, wide), read_values, ATTENTION, (up_values,)),
        )

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        config = self.config
        return config.num_heads, config.qk_nope_head_dim, config.v_head_dim, config.kv_lora_rank

    def _open_apart(self, keys: str, values: str) -> tuple[list[Matrix], list[Matrix]]:
        """A matrix a head [nope, rank] and [v, rank] of tensors [heads, rank, nope] and [heads, v, rank]."""
        heads, nope, wide, rank = self._sizes
        checkpoint = self.block.checkpoint
        return open_planes(checkpoint, keys, heads, (nope, rank), True), open_planes(
            checkpoint, values, heads, (wide, rank)
        )

    def _divide(self, values: F32) -> F32:
        """W_uv [heads, v, rank] whose rows are divided as the output projection's columns are multiplied."""
        by_rank = values.reshape(-1, values.shape[-1]).T  # [rank, heads * v]
        return self.block.channels.divide(self.values, by_rank).T.reshape(values.shape)


def _open_halved(block: Block, config: MultiHeadLatent, name: str, columns: int, heads: int, plain: int) -> Matrix:
    """A projection to heads of `plain` and rotary rows, these paired as halves, whatever the checkpoint pairs."""
    matrix = block.matrix(name, heads * (plain + config.qk_rope_head_dim), columns)
    order = halves_order(heads, plain, config.qk_rope_head_dim)
    return Reordered(matrix, order) if config.rope.interleaved else matrix


def _read_bias(block: Block, config: MultiHeadLatent, name: str) -> Vector:
    """Biases of the product's rows, in their order; without q_lora_rank the query has none, and a gate never."""
    heads, nope, rotary = config.num_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    down = block.parameter(f"{name}.kv_a_proj_with_mqa.bias", config.latent_width)
    if config.rope.interleaved:
        down = down[halves_order(1, config.kv_lora_rank, rotary)]
    if config.q_lora_rank is None:
        first = np.zeros(heads * (nope + rotary), np.float32)
    else:
        first = block.parameter(f"{name}.q_a_proj.bias", config.q_lora_rank)
    gate = np.zeros(heads if config.gate else 0, np.float32)
    return Vector(f"{name}.q_kv_a_proj.bias", np.concatenate([first, down, gate]), ATTENTION)
