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
from moedge.export.graph.inputs import GraphInputs
from moedge.export.graph.mixer_inputs import Convolved, DeltaInputs, Heads, Latents, MambaInputs, Vector
from moedge.export.graph.storing import store_whole
from moedge.export.model.config import SILU, Attention, Experts, Gate, GroupedQuery, Mixer, MultiHeadLatent, OutputGate
from moedge.export.model.recurrent import DeltaNet, Mamba2
from moedge.export.model.rope import Rope
from moedge.quant.blocks import F32
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import ROUTER, CacheTensor, GroupName


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
    switch: int  # the length above which the second half of the tables counts (LongRoPE); 0: there is none


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
class GatedMlp:
    """The weights of an MLP that every token runs, down(silu(gate x) * up x), none of them multiplied yet.

    `gate_up` is gate and up, or both as one matrix, gate rows before up rows; or up alone. Biases: of these in that
    order, and of down [hidden_size].
    """

    gate_up: Sequence[Matrix]
    down: Matrix
    width: int
    group: GroupName
    biases: tuple[F32, F32] | None
    how: Gate = SILU

    def name_biases(self, b: Builder) -> tuple[Vector | None, Vector | None]:
        """The biases as parameters of a graph."""
        if self.biases is None:
            return None, None
        first, second = self.biases
        return (
            Vector(b.full_name("gate_up_proj.bias"), first, self.group),
            Vector(b.full_name("down_proj.bias"), second, self.group),
        )


@dataclass(frozen=True)
class RouterWeights:
    """What a router is made of, in fp32 whatever the scheme: a matrix [experts, hidden_size], and biases [experts].

    `bias` belongs to the logits, `correction` to what selects alone.
    """

    name: str
    matrix: Matrix
    bias: Vector | None = None
    correction: Vector | None = None
    expert_scale: Vector | None = None  # what chosen experts' weights are times, once normalized

    def store(self, b: Builder) -> ir.Value:
        """The matrix as a value of the graph."""
        return store_whole(b, self.name, self.matrix, ROUTER)


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
    """The routed experts of a layer, two matrices each: rows gate0, up0, gate1, up1, … in the first, or up rows alone.

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

    @property
    def graph_inputs(self) -> GraphInputs:
        """What the graph is told beside tokens and caches."""
        ...

    def positions(self, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int) -> Positions:
        """Lengths, positions, masks and rotary tables for these layers; the new tokens are axis 1 of `tokens`."""
        ...

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """Rows of the embedding table [s, hidden_size]; a tied table is kept for `head`."""
        ...

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits of hidden states; None: the tied embedding table."""
        ...

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName, bias: Vector | None = None) -> ir.Value:
        """x · Wᵀ + bias."""
        ...

    def mlp(self, x: ir.Value, weights: GatedMlp) -> ir.Value:
        """down(silu(gate x) * up x)."""
        ...

    def add_shared(self, x: ir.Value, routed: ir.Value, weights: GatedMlp, gate: RouterWeights | None) -> ir.Value:
        """What routed experts give, and the shared ones: their MLP, times sigmoid of a router of one if `gate` is."""
        ...

    def route(self, x: ir.Value, weights: RouterWeights, config: Experts) -> Routing:
        """What the router says of hidden states."""
        ...

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        """(norm(x + delta), x + delta)."""
        ...

    def rope(self, x: ir.Value, heads: int, rope: Rope, where: Positions) -> ir.Value:
        """Rotate [s, heads, rope.dim] by position, halves paired."""
        ...

    def grouped_query(self, layer: int, heads: Heads, config: GroupedQuery, where: Positions) -> ir.Value:
        """Cached causal attention [s, num_heads * head_dim], all but the projections."""
        ...

    def open_gate(self, out: ir.Value, gate: ir.Value, how: OutputGate, heads: int, dim: int) -> ir.Value:
        """What attention gives [s, heads * dim] times a function of the gate, [s, heads] or as wide as that."""
        ...

    def latent(self, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        """Cached causal attention [s, num_heads * v_head_dim], all but the projections at both ends."""
        ...

    def convolve(self, layer: int, given: Convolved) -> ir.Value:
        """c · conv(b · x) [s, hidden_size] of the three parts b, c, x of the product, over a cache of rows."""
        ...

    def causal_convolution(self, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
        """silu(bias + sum_j taps[j] x[t - kernel + 1 + j]) [s, channels], each channel by itself, over a state."""
        ...

    def delta_net(self, layer: int, given: DeltaInputs, config: DeltaNet) -> ir.Value:
        """What a delta net makes of its convolved tokens, normalized and gated [s, values]."""
        ...

    def mamba2(self, layer: int, given: MambaInputs, config: Mamba2) -> ir.Value:
        """What Mamba-2 makes of its convolved tokens, gated and normalized [s, inner]."""
        ...

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """The weighted sum of the routed experts' gated MLPs [s, hidden_size]."""
        ...
