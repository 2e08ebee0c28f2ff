"""What the lowerings have in common: the operations that a decoder is written in.

`standard.py` lowers them to plain ONNX, with an `If` an expert; `fused.py` to ONNX Runtime's CPU kernels, with one QMoE
node a layer; `native.py` to moedge's own. All other graph modules use this protocol and never ask which one it is.
Hidden states are 2-D, [s, hidden_size]: batch is 1.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.builder import Builder
from moedge.export.model.config import Attention, Experts, GroupedQuery, Mixer
from moedge.export.model.rope import Rope
from moedge.quant.blocks import F32
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import CacheTensor, GroupName


@dataclass(frozen=True)
class Bias:
    """What is added to attention's scores: 0, or -inf where a token may not look. One row a query head and token."""

    past: ir.Value | None  # [heads a key head * s, t]; None: every past token may be looked at
    new: ir.Value  # [heads a key head * s, s]


@dataclass(frozen=True)
class Rotary:
    """Where the new tokens stand in one rotary embedding."""

    rows: ir.Value  # int64 [s]: the rows of the whole tables that belong to the new tokens
    cos: ir.Value  # the whole table [context, dim / 2] or that of the new tokens [s, dim / 2], as the lowering wants
    sin: ir.Value
    switches: bool  # LongRoPE has two sets of frequencies within the context


@dataclass(frozen=True)
class Positions:
    """What the whole graph shares about where the new tokens stand."""

    past_length: ir.Value  # int64 [1]
    new_length: ir.Value  # int64 [1]
    rotary: Mapping[Rope, Rotary]
    masks: Mapping[tuple[int, int], Bias]  # by query heads a key head, and window; 0: none

    def hides(self, attention: Attention) -> bool:
        """Whether its window is narrower than the context, so that it hides anything."""
        return attention.window > 0 and (attention.heads_a_key, attention.window) in self.masks

    def mask(self, attention: Attention) -> Bias:
        """What its tokens may not look at."""
        return self.masks[attention.heads_a_key, attention.window if self.hides(attention) else 0]


@dataclass(frozen=True)
class Norm:
    """A normalization of the last axis; with a bias it is LayerNorm, without RMSNorm."""

    weight: ir.Value
    bias: ir.Value | None
    eps: float


@dataclass(frozen=True)
class Routing:
    """A router's result, [s, num_experts] each; `weigh` None: softmax over the selected `select`.

    The chosen experts count as much as `weigh` says, times `scale`.
    """

    select: ir.Value
    weigh: ir.Value | None
    scale: float


@dataclass(frozen=True)
class ExpertWeights:
    """The routed experts of a layer, two matrices each: rows gate0, up0, gate1, up1, … in the first.

    Biases of all experts, if they have any: [experts, 2 * intermediate_size] in that order, and [experts, hidden_size].
    """

    gate_up: Sequence[Matrix]
    down: Sequence[Matrix]
    gate_up_bias: F32 | None = None
    down_bias: F32 | None = None

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of them."""
        return (*self.gate_up, *self.down)


@dataclass(frozen=True)
class CachePort:
    """A cache tensor's ends in the graph: the manifest's entry, the input, and the output once it is known."""

    tensor: CacheTensor
    past: ir.Value
    present: ir.Value


class Lowering(Protocol):
    """One way to write a decoder's operations in ONNX."""

    builder: Builder
    cache: list[CachePort]
    notes: list[str]
    layer: int | None  # that is being built; None before the first and after the last
    expert_schemes: Counter[Scheme]  # of the routed experts, in so many layers that were built

    def positions(self, attention_mask: ir.Value, tokens: ir.Value, mixers: Sequence[Mixer], context: int) -> Positions:
        """Lengths, positions, masks and rotary tables for these layers; the new tokens are axis 1 of `tokens`."""
        ...

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """Rows of the embedding table [s, hidden_size]; a tied table is kept for `head`."""
        ...

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits of hidden states; None: the tied embedding table."""
        ...

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName) -> ir.Value:
        """x · Wᵀ."""
        ...

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        """(norm(x + delta), x + delta)."""
        ...

    def rope(self, x: ir.Value, heads: int, rope: Rope, where: Positions) -> ir.Value:
        """Rotate [s, heads, rope.dim] by position, halves paired."""
        ...

    def grouped_query(
        self,
        layer: int,
        heads: tuple[ir.Value, ir.Value, ir.Value],
        config: GroupedQuery,
        sinks: ir.Value | None,
        where: Positions,
    ) -> ir.Value:
        """Cached causal attention [s, heads * head_dim] of q [s, heads, head_dim], k, v [s, kv_heads, head_dim].

        q and k are not yet rotated; `sinks` [heads] take part in the softmax.
        """
        ...

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """The weighted sum of the routed experts' gated MLPs [s, hidden_size]."""
        ...
