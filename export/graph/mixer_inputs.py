"""What mixers have of their tokens when a lowering takes over: products, and parameters that no scheme rounds."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.builder import Builder
from moedge.quant.blocks import F32
from moedge.runtime.manifest import GroupName


@dataclass(frozen=True)
class Vector:
    """A named fp32 parameter that no scheme rounds, on its way into a graph."""

    name: str
    values: F32
    group: GroupName

    def store(self, b: Builder) -> ir.Value:
        """The same as a value of the graph."""
        return b.vector(self.name, self.values, self.group)


@dataclass(frozen=True)
class Heads:
    """What grouped-query attention has of its tokens: one product, neither normalized nor clipped nor rotated yet."""

    joined: ir.Value  # [s, (num_heads + 2 num_kv_heads) * head_dim]: q of all heads, then k, then v
    norms: tuple[Vector, Vector] | None  # weights of q and of k, for `GroupedQuery.qk_norm`
    norm_eps: float
    sinks: Vector | None  # [num_heads]: scores that take part in the softmax and weigh nothing

    @property
    def vectors(self) -> list[Vector]:
        """All parameters."""
        return [vector for vector in (*(self.norms or ()), self.sinks) if vector is not None]


@dataclass(frozen=True)
class Latents:
    """What multi-head latent attention has of its tokens: one product, neither normalized nor rotated yet.

    Its columns are `query_width` that `query` makes the heads' queries of, then the latent row and what is rotated.
    """

    joined: ir.Value  # [s, query_width + latent_width]
    query_width: int
    query: Callable[[ir.Value], ir.Value]  # [s, query_width] to [s, num_heads * (nope + rope)]
    norm: Vector  # of the latent row
    up: str  # the up-projection's name
    joint: Callable[[], Matrix]  # it, [num_heads * (nope + v), rank]: of each head the keys' rows, then the values'
    absorbed: Callable[[], tuple[ir.Value, ir.Value]]  # its parts in fp32, [num_heads, nope, rank] and [., rank, v]


@dataclass(frozen=True)
class DeltaInputs:
    """What a delta net has of its tokens."""

    mixed: ir.Value  # [s, convolved]: q, k, v behind the convolution
    gate: ir.Value  # [s, values]
    beta: ir.Value  # [s, value_heads]
    decay: ir.Value  # [s, decays]
    a: Vector  # [value_heads]: -e^A_log
    dt_bias: Vector  # [decays]
    norm: Vector  # [value_dim]


@dataclass(frozen=True)
class MambaInputs:
    """What Mamba-2 has of its tokens."""

    mixed: ir.Value  # [s, convolved]: x, B, C behind the convolution
    gate: ir.Value  # [s, inner]
    dt: ir.Value  # [s, heads]
    a: Vector  # [heads]: -e^A_log
    dt_bias: Vector  # [heads]
    d: Vector  # [heads]
    norm: Vector  # [inner]


@dataclass(frozen=True)
class Convolved:
    """What a short convolution has of its tokens: one product [s, 3 * hidden_size], biases added, and its own weights.

    The last of the taps [kernel, hidden_size] is the token's own.
    """

    joined: ir.Value
    taps: Vector
    bias: Vector | None

    def store_taps(self, b: Builder) -> ir.Value:
        """The taps as a value of the graph."""
        return b.matrix(self.taps.name, self.taps.values, self.taps.group)
