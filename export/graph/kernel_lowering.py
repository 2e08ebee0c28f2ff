"""What the plans for kernels share: how a decoder's matrices become values of a graph, and norms and rotations.

How quantized matrices are stored and multiplied, and what attends, is what such plans differ in: see fused.py and
native.py.
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Generic, TypeVar

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import add_bias
from moedge.export.graph.builder import MICROSOFT, Builder
from moedge.export.graph.lowering import CachePort, ExpertWeights, Norm, Positions, Routing
from moedge.export.graph.mixer_inputs import Vector
from moedge.export.graph.storing import scheme_for, store_floats
from moedge.export.model.config import Experts
from moedge.export.model.rope import Rope
from moedge.quant.blocks import F32
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import EMBEDDING, LM_HEAD, ROUTED_EXPERTS, GroupName

Stored = TypeVar("Stored")  # a quantized matrix in the weights file


class KernelLowering(ABC, Generic[Stored]):
    """Lowers a decoder to ONNX Runtime's contributed operators, but for products of quantized matrices."""

    def __init__(self, builder: Builder, schemes: SchemePlan, rounding: Rounding, notes: list[str]) -> None:
        self.builder = builder
        self.cache: list[CachePort] = []
        self.notes = notes
        self.layer: int | None = None
        self.expert_schemes: Counter[Scheme] = Counter()
        self.rounding = rounding
        # Until the first router has decided, activations keep their bits: its choices are then those of the exact twin.
        self.exact_activations = True
        self._schemes = schemes
        self._table: ir.Value | Stored | None = None

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """Rows of the very matrix that a tied head multiplies; Gather where it is fp32."""
        b, name = self.builder, "model.embed_tokens"
        scheme = scheme_for((table,), self._schemes.of(EMBEDDING), name, self.notes)
        ids = b.op("Squeeze", input_ids, b.ints(0))  # [s]
        if not scheme.quantized:
            weight = store_floats(b, name, table, self.rounding, EMBEDDING)
            self._table = weight if tied else None
            return b.op("Gather", weight, ids)
        stored = self.store(name, table, scheme, EMBEDDING)
        self._table = stored if tied else None
        return self.look_up(ids, stored)

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits."""
        if matrix is not None:
            return self.linear("lm_head", hidden, matrix, LM_HEAD)
        if self._table is None:
            raise AssertionError("a tied head needs the embedding first")
        return self._product(hidden, self._table)

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName, bias: Vector | None = None) -> ir.Value:
        """A kernel's product; Gemm where weights are fp32."""
        full = self.builder.full_name(name)
        scheme = scheme_for((matrix,), self._schemes.of(group, self.layer), full, self.notes)
        if not scheme.quantized:
            return self._product(x, store_floats(self.builder, full, matrix, self.rounding, group), bias)
        return self._product(x, self.store(full, matrix, scheme, group), bias)

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        """(norm(x + delta), x + delta) in one kernel."""
        kernel, weights = "SkipSimplifiedLayerNormalization", [norm.weight]
        if norm.bias is not None:
            kernel, weights = "SkipLayerNormalization", [norm.weight, norm.bias]
        normed, _, _, total = self.builder.ops(
            kernel,
            *(x, delta, *weights),
            attributes={"epsilon": norm.eps},
            outputs=4,
            domain=MICROSOFT,
        )
        return normed, total

    def rope(self, x: ir.Value, heads: int, rope: Rope, where: Positions) -> ir.Value:
        """RotaryEmbedding over [s, heads, dim]."""
        b, rotary = self.builder, where.rotary[rope]
        flat = b.op("Reshape", x, b.ints(1, -1, heads * rope.dim))
        ids = b.op("Unsqueeze", rotary.rows, b.ints(0))
        turned = b.op("RotaryEmbedding", flat, ids, rotary.cos, rotary.sin, domain=MICROSOFT)
        return b.op("Reshape", turned, b.ints(-1, heads, rope.dim))

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """One node a layer."""
        wanted = self._schemes.of(ROUTED_EXPERTS, self.layer)
        scheme = scheme_for(weights.matrices, wanted, ROUTED_EXPERTS, self.notes, floats=True)
        self.expert_schemes[scheme] += 1
        self.exact_activations = False
        with self.builder.scope("experts"):
            return self.mixture(x, routing, weights, config, scheme)

    @abstractmethod
    def store(self, name: str, matrix: Matrix, scheme: Scheme, group: GroupName) -> Stored:
        """Write a matrix of that name into the weights file."""

    @abstractmethod
    def look_up(self, ids: ir.Value, table: Stored) -> ir.Value:
        """Rows [s, columns] of a matrix, for ids [s]."""

    @abstractmethod
    def multiply(self, x: ir.Value, stored: Stored, bias: Vector | None) -> ir.Value:
        """x · Wᵀ + bias."""

    @abstractmethod
    def mixture(
        self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts, scheme: Scheme
    ) -> ir.Value:
        """See `Lowering.experts`; all of the experts' matrices get that scheme."""

    def expert_biases(self, weights: ExpertWeights) -> tuple[ir.Value | None, ir.Value | None]:
        """Those of gate and up [experts, 2 * intermediate_size], in turn, and of down [experts, hidden_size]."""

        def store(name: str, biases: F32 | None) -> ir.Value | None:
            b = self.builder
            return None if biases is None else b.matrix(b.full_name(f"{name}.bias"), biases, ROUTED_EXPERTS)

        return store("gate_up_proj", weights.gate_up_bias), store("down_proj", weights.down_bias)

    def _product(self, x: ir.Value, stored: ir.Value | Stored, bias: Vector | None = None) -> ir.Value:
        if isinstance(stored, ir.Value):
            return add_bias(self.builder, self.builder.op("Gemm", x, stored, attributes={"transB": 1}), bias)
        return self.multiply(x, stored, bias)
