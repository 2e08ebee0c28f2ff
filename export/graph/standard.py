"""The `if` plan: standard ONNX only (opset 21), one `If` an expert, caches as rows. The others' exact twin.

Quantized weights are dequantized by DequantizeLinear at every run: right everywhere, fast nowhere.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import FLOAT, activate, add_bias, apply_gate, normalize
from moedge.export.graph.builder import Builder
from moedge.export.graph.grouped_query import open_heads, plain_grouped_query
from moedge.export.graph.inputs import MaskInputs
from moedge.export.graph.lowering import CachePort, ExpertWeights, Norm, Positions, Rotary, Routing
from moedge.export.graph.mixer_inputs import Heads, Vector
from moedge.export.graph.plain_parts import PlainParts
from moedge.export.graph.positions import build_positions
from moedge.export.graph.stored_values import (
    PAIRS,
    dequantize_floats,
    dequantize_stored,
    join_codes,
    kernel_scales,
    part_bytes,
)
from moedge.export.graph.storing import (
    StoredCodes,
    StoredFloats,
    reserve_codes,
    reserve_floats,
    scheme_for,
    store_quantized,
    store_rows,
)
from moedge.export.model.config import Experts, Gate, GroupedQuery, Mixer
from moedge.export.model.rope import Rope
from moedge.quant.blocks import F32
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import EMBEDDING, LM_HEAD, ROUTED_EXPERTS, GroupName


class StandardLowering(PlainParts):
    """Lowers a decoder to standard ONNX."""

    def __init__(self, builder: Builder, schemes: SchemePlan, rounding: Rounding, notes: list[str]) -> None:
        self.builder = builder
        self.cache: list[CachePort] = []
        self.notes = notes
        self.graph_inputs = MaskInputs()
        self.layer: int | None = None
        self.expert_schemes: Counter[Scheme] = Counter()
        self._schemes = schemes
        self._rounding = rounding
        self._table: ir.Value | StoredCodes | None = None

    def positions(self, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int) -> Positions:
        """Lengths, masks, and the rotary rows of the new tokens [s, dim / 2]."""
        where, _ = build_positions(self.builder, self.graph_inputs, tokens, mixers, context)
        return replace(where, rotary={rope: self._gather_rows(rotary) for rope, rotary in where.rotary.items()})

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """Rows of the table; codes are gathered before they are dequantized."""
        b = self.builder
        ids = b.op("Squeeze", input_ids, b.ints(0))  # [s]
        scheme = scheme_for((table,), self._schemes.of(EMBEDDING), "model.embed_tokens", self.notes)
        if not scheme.quantized:
            weight = self._store(b, "model.embed_tokens", table, scheme, EMBEDDING)
            self._table = weight if tied else None
            return b.op("Gather", weight, ids)
        stored = store_quantized(b, "model.embed_tokens", table, scheme, self._rounding, EMBEDDING)
        self._table = stored if tied else None
        return self._gather_codes(stored, ids)

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits."""
        if matrix is not None:
            return self.linear("lm_head", hidden, matrix, LM_HEAD)
        if self._table is None:
            raise AssertionError("a tied head needs the embedding first")
        weight = dequantize_stored(self.builder, self._table) if isinstance(self._table, StoredCodes) else self._table
        return self._product(hidden, weight)

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName, bias: Vector | None = None) -> ir.Value:
        """Gemm over fp32 or dequantized weights."""
        scheme = scheme_for((matrix,), self._schemes.of(group, self.layer), name, self.notes)
        out = self._product(x, self._store(self.builder, self.builder.full_name(name), matrix, scheme, group))
        return add_bias(self.builder, out, bias)

    def add_norm(self, x: ir.Value, delta: ir.Value, norm: Norm) -> tuple[ir.Value, ir.Value]:
        """(norm(x + delta), x + delta)."""
        total = self.builder.op("Add", x, delta)
        return normalize(self.builder, total, norm), total

    def rope(self, x: ir.Value, heads: int, rope: Rope, where: Positions) -> ir.Value:
        """[x1 cos - x2 sin, x2 cos + x1 sin] over the halves of each head."""
        b = self.builder
        rotary = where.rotary[rope]
        cos, sin = (b.op("Unsqueeze", t, b.ints(1)) for t in (rotary.cos, rotary.sin))  # [s, 1, dim / 2]
        x1, x2 = b.ops("Split", x, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
        first = b.op("Sub", b.op("Mul", x1, cos), b.op("Mul", x2, sin))
        second = b.op("Add", b.op("Mul", x2, cos), b.op("Mul", x1, sin))
        return b.op("Concat", first, second, attributes={"axis": -1})

    def grouped_query(self, layer: int, heads: Heads, config: GroupedQuery, where: Positions) -> ir.Value:
        """Plain operators."""
        return plain_grouped_query(self, layer, open_heads(self.builder, heads, config), config, where)

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """One `If` an expert: its branch gathers the expert's tokens, runs it and scatter-adds the result."""
        b = self.builder
        indices, parts = self.choose(routing, config)
        routed = self._find_routed(indices, config.num_experts)
        total = b.op("Expand", b.constant(np.array([0], np.float32)), b.op("Shape", x))
        wanted = self._schemes.of(ROUTED_EXPERTS, self.layer)
        scheme = scheme_for(weights.matrices, wanted, ROUTED_EXPERTS, self.notes, floats=True)
        self.expert_schemes[scheme] += 1
        for expert in range(config.num_experts):
            with b.scope(f"experts.{expert}"):
                taken = self._expert(x, total, indices, parts, expert, weights, scheme, config.gate)
                idle = b.branch()
                untouched = idle.op("Identity", total)
                total = b.op(
                    "If",
                    routed[expert],
                    attributes={
                        "then_branch": taken,
                        "else_branch": idle.graph([], [untouched], "idle"),
                    },
                )
        return total

    def choose(self, routing: Routing, config: Experts) -> tuple[ir.Value, ir.Value]:
        """The experts that each token goes to, the likeliest first, and how much each counts: [s, top_k] both."""
        b = self.builder
        top = b.ints(config.num_experts_per_tok)
        values, indices = b.ops("TopK", routing.select, top, attributes={"axis": -1}, outputs=2)
        if routing.weigh is None:
            parts = b.op("Softmax", values, attributes={"axis": -1})
        else:
            parts = b.op("GatherElements", routing.weigh, indices, attributes={"axis": 1})
        return indices, b.op("Mul", parts, b.constant(np.array(routing.scale, np.float32)))

    def _find_routed(self, indices: ir.Value, experts: int) -> Sequence[ir.Value]:
        """For each expert, whether any token goes to it: bool [1] each."""
        b = self.builder
        flat = b.op("Reshape", indices, b.ints(-1))
        ones = b.op("Expand", b.constant(np.array([1], np.int64)), b.op("Shape", flat))
        hits = b.op("ScatterElements", b.constant(np.zeros(experts, np.int64)), flat, ones, attributes={"axis": 0})
        routed = b.op("Cast", hits, attributes={"to": ir.DataType.BOOL.value})
        return b.ops("Split", routed, attributes={"num_outputs": experts, "axis": 0}, outputs=experts)

    def _expert(
        self,
        x: ir.Value,
        total: ir.Value,
        indices: ir.Value,
        parts: ir.Value,
        expert: int,
        weights: ExpertWeights,
        scheme: Scheme,
        how: Gate,
    ) -> ir.Graph:
        """The branch taken: total + this expert's share, for its tokens only. Initializers stay inside the branch."""
        b = self.builder.branch()
        at = b.op("NonZero", b.op("Equal", indices, b.constant(np.array(expert, np.int64))))  # [2, n]: token, slot
        pairs = b.op("Transpose", at, attributes={"perm": [1, 0]})  # [n, 2]
        tokens = b.op("Gather", at, b.constant(np.array(0, np.int64)), attributes={"axis": 0})  # [n]
        rows = b.op("Gather", x, tokens)
        inner = self._inner(b, rows, expert, weights, scheme, how)
        down = self._store(b, b.full_name("down_proj"), weights.down[expert], scheme, ROUTED_EXPERTS)
        bias = None if weights.down_bias is None else weights.down_bias[expert]
        out = self._project(b, inner, "down_proj", down, bias)
        share = b.op("Unsqueeze", b.op("GatherND", parts, pairs), b.ints(-1))  # [n, 1]
        added = b.op(
            "ScatterND",
            total,
            b.op("Unsqueeze", tokens, b.ints(-1)),
            b.op("Mul", out, share),
            attributes={"reduction": "add"},
        )
        added.type = FLOAT
        return b.graph([], [added], "expert")

    def _inner(
        self, b: Builder, x: ir.Value, expert: int, weights: ExpertWeights, scheme: Scheme, how: Gate
    ) -> ir.Value:
        """What an expert's down-projection reads."""
        if how.matrices == 2:
            return apply_gate(b, *self._gate_up(b, x, expert, weights, scheme), how)
        up = self._store(b, b.full_name("up_proj"), weights.gate_up[expert], scheme, ROUTED_EXPERTS)
        bias = None if weights.gate_up_bias is None else weights.gate_up_bias[expert]
        return activate(b, self._project(b, x, "up_proj", up, bias), how)

    def _gate_up(
        self, b: Builder, x: ir.Value, expert: int, weights: ExpertWeights, scheme: Scheme
    ) -> tuple[ir.Value, ir.Value]:
        """An expert's gate and up-projection of x, two products: their rows alternate in the one matrix."""
        matrix = weights.gate_up[expert]
        shape = matrix.shape[0] // 2, matrix.shape[1]
        rooms, products = [], []
        for place, name in enumerate(("gate_proj", "up_proj")):
            sources = () if place else (matrix,)  # of both, and counted once
            room, weight = self._reserve(b, b.full_name(name), shape, scheme, ROUTED_EXPERTS, sources)
            bias = None if weights.gate_up_bias is None else weights.gate_up_bias[expert, place::2]
            products.append(self._project(b, x, name, weight, bias))
            rooms.append(room)
        store_rows(matrix, self._rounding, *rooms)
        gate, up = products
        return gate, up

    def _project(self, b: Builder, x: ir.Value, name: str, weight: ir.Value, bias: F32 | None) -> ir.Value:
        """An expert's projection within its branch."""
        if bias is None:
            return b.op("Gemm", x, weight, attributes={"transB": 1})
        added = b.vector(f"{b.full_name(name)}.bias", bias, ROUTED_EXPERTS)
        return b.op("Gemm", x, weight, added, attributes={"transB": 1})

    def _store(self, b: Builder, name: str, matrix: Matrix, scheme: Scheme, group: GroupName) -> ir.Value:
        """A matrix in the weights file, as the fp32 value that a product reads."""
        room, weight = self._reserve(b, name, matrix.shape, scheme, group, (matrix,))
        store_rows(matrix, self._rounding, room)
        return weight

    def _reserve(
        self,
        b: Builder,
        name: str,
        shape: tuple[int, int],
        scheme: Scheme,
        group: GroupName,
        matrices: Sequence[Matrix],
    ) -> tuple[StoredCodes | StoredFloats, ir.Value]:
        """Room for a matrix, and the fp32 value that a product reads of it."""
        if not scheme.quantized:
            floats = reserve_floats(b, f"{name}.weight", shape, group, matrices)
            return floats, b.initializer(floats.region.tensor)
        codes = reserve_codes(b, name, shape, scheme, group, matrices)
        if scheme.numbers == "floats":
            return codes, dequantize_floats(b, codes, self.builder.constant(PAIRS))
        return codes, dequantize_stored(b, codes)

    def _gather_rows(self, rotary: Rotary) -> Rotary:
        """The rows of the new tokens alone."""
        cos, sin = (self.builder.op("Gather", table, rotary.rows) for table in (rotary.cos, rotary.sin))
        return replace(rotary, cos=cos, sin=sin)

    def _product(self, x: ir.Value, weight: ir.Value) -> ir.Value:
        return self.builder.op("Gemm", x, weight, attributes={"transB": 1})

    def _gather_codes(self, table: StoredCodes, ids: ir.Value) -> ir.Value:
        """Rows of a quantized table [s, columns] in plain operators: gather bytes, part the codes, scale."""
        b, scheme, (rows, columns) = self.builder, table.scheme, table.shape
        bits, block = scheme.bits, scheme.block
        width = columns if bits == 8 else columns // 2
        raw = b.weights.alias(table.codes, f"{table.name}.rows", ir.DataType.UINT8, (rows, width))
        codes, middle = b.op("Gather", b.initializer(raw), ids), b.constant(np.array(1 << (bits - 1), np.float32))
        if bits < 8:
            codes = part_bytes(b, codes, 4)
        if table.upper is not None:
            codes = join_codes(b, codes, b.op("Gather", b.initializer(table.upper.tensor), ids), bits)
        blocks = b.op("Reshape", self._as_fp32(codes), b.ints(0, columns // block, block))
        if table.zero_points is not None:
            zeros = b.op("Gather", b.initializer(table.zero_points.tensor), ids)
            zeros = part_bytes(b, zeros, 4) if bits == 4 else zeros
            middle = b.op("Unsqueeze", self._as_fp32(zeros), b.ints(-1))
        if scheme.scales == "float8":  # no operator gathers them
            scale = b.op("Gather", kernel_scales(b, table), ids)
        else:
            scale = self._as_fp32(b.op("Gather", b.initializer(table.scales.tensor), ids))
        scale = b.op("Unsqueeze", scale, b.ints(-1))  # [s, blocks, 1]
        return b.op("Reshape", b.op("Mul", b.op("Sub", blocks, middle), scale), b.ints(0, columns))

    def _as_fp32(self, value: ir.Value) -> ir.Value:
        return self.builder.op("Cast", value, attributes={"to": ir.DataType.FLOAT.value})
