"""The `fused` plan: ONNX Runtime's CPU kernels, one QMoE node a layer, MatMulNBits for everything dense.

QMoE's inputs and attributes are qmoe.py's; routing stays explicit in fp32 beside it.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import FLOAT, scale
from moedge.export.graph.builder import MICROSOFT, Attributes, Builder
from moedge.export.graph.grouped_query import plain_grouped_query, rotate
from moedge.export.graph.lowering import CachePort, ExpertWeights, Norm, Positions, Routing
from moedge.export.graph.positions import build_positions
from moedge.export.graph.qmoe import (
    FP32_ACTIVATIONS,
    INT8_ACTIVATIONS,
    drop_absent_last,
    qmoe_attributes,
    qmoe_inputs,
)
from moedge.export.graph.stored_values import kernel_inputs, row_inputs
from moedge.export.graph.storing import (
    StoredCodes,
    reserve_codes,
    scheme_for,
    store_floats,
    store_quantized,
    write_rows,
)
from moedge.export.model.config import Experts, GroupedQuery, Mixer
from moedge.export.model.rope import Rope
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import EMBEDDING, LM_HEAD, ROUTED_EXPERTS, CacheTensor, GroupName


class FusedLowering:
    """Lowers a decoder to ONNX Runtime's contributed operators."""

    def __init__(self, builder: Builder, schemes: SchemePlan, rounding: Rounding, notes: list[str]) -> None:
        self.builder = builder
        self.cache: list[CachePort] = []
        self.notes = notes
        self.layer: int | None = None
        self.expert_schemes: Counter[Scheme] = Counter()
        self._schemes = schemes
        self._rounding = rounding
        self._table: ir.Value | StoredCodes | None = None
        self._lengths: tuple[ir.Value, ir.Value] | None = None
        # Until the first router has decided, activations stay fp32: its choices are then those of the exact twin.
        self._activations = FP32_ACTIVATIONS

    def positions(self, attention_mask: ir.Value, tokens: ir.Value, mixers: Sequence[Mixer], context: int) -> Positions:
        """Lengths, masks, and the whole rotary tables [context, dim / 2], which the kernels index."""
        b = self.builder
        where, total = build_positions(b, attention_mask, tokens, mixers, context)
        total_32 = b.op("Cast", total, attributes={"to": ir.DataType.INT32.value})
        last = b.op("Sub", total_32, b.constant(np.array([1], np.int32)))
        self._lengths = last, b.op("Squeeze", total_32, b.ints(0))
        return where

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """GatherBlockQuantized over the same bytes that a tied head multiplies; Gather where they are fp32."""
        b = self.builder
        scheme = scheme_for((table,), self._schemes.of(EMBEDDING), "model.embed_tokens", self.notes)
        ids = b.op("Squeeze", input_ids, b.ints(0))  # [s]
        if not scheme.quantized:
            weight = store_floats(b, "model.embed_tokens", table, self._rounding, EMBEDDING)
            self._table = weight if tied else None
            return b.op("Gather", weight, ids)
        stored = store_quantized(b, "model.embed_tokens", table, scheme, self._rounding, EMBEDDING)
        self._table = stored if tied else None
        codes, scales, zeros, _ = row_inputs(b, stored)
        return b.op(
            "GatherBlockQuantized",
            *drop_absent_last([codes, ids, scales, zeros]),
            attributes={"bits": scheme.kernel_bits, "block_size": scheme.block, "gather_axis": 0, "quantize_axis": 1},
            domain=MICROSOFT,
        )

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits."""
        if matrix is not None:
            return self.linear("lm_head", hidden, matrix, LM_HEAD)
        if self._table is None:
            raise AssertionError("a tied head needs the embedding first")
        return self._product(hidden, self._table)

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName) -> ir.Value:
        """MatMulNBits; Gemm where weights are fp32."""
        full = self.builder.full_name(name)
        scheme = scheme_for((matrix,), self._schemes.of(group, self.layer), full, self.notes)
        if not scheme.quantized:
            return self._product(x, store_floats(self.builder, full, matrix, self._rounding, group))
        return self._product(x, store_quantized(self.builder, full, matrix, scheme, self._rounding, group))

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

    def grouped_query(
        self,
        layer: int,
        heads: tuple[ir.Value, ir.Value, ir.Value],
        config: GroupedQuery,
        sinks: ir.Value | None,
        where: Positions,
    ) -> ir.Value:
        """GroupQueryAttention, which extends a shared cache buffer in place and, where it can, rotates."""
        b, kv, dim = self.builder, config.num_kv_heads, config.head_dim
        if self._lengths is None:
            raise AssertionError("positions come before attention")
        if dim % 8:
            self.notes.append(f"attention: heads of {dim} do not fit ONNX Runtime's kernel, so plain operators run it")
            return plain_grouped_query(self, layer, heads, config, sinks, where)
        (q, k, v), rope, rotary = heads, config.rope, where.rotary[config.rope]
        rotates = dim % 16 == 0 and rope.dim % 16 == 0 and not rotary.switches
        if not rotates:
            q = rotate(self, q, config.num_heads, dim, rope, where)
            k = rotate(self, k, kv, dim, rope, where)
        flat = [b.op("Reshape", t, b.ints(1, -1, n * dim)) for t, n in ((q, config.num_heads), (k, kv), (v, kv))]
        ports = [self._shared_port(layer, name, kv, dim) for name in ("key", "value")]
        tables = (rotary.cos, rotary.sin) if rotates else (None, None)
        position_ids = attention_bias = None
        inputs = [*flat, *(past for past, _ in ports), *self._lengths, *tables, position_ids, attention_bias, sinks]
        attributes: Attributes = {"num_heads": config.num_heads, "kv_num_heads": kv, "scale": config.scale}
        attributes["do_rotary"] = int(rotates)
        if where.hides(config):
            attributes["local_window_size"] = config.window
        out, *presents = b.ops(
            "GroupQueryAttention",
            *drop_absent_last(inputs),
            attributes=attributes,
            outputs=[b.full_name("context"), *(tensor.present for _, tensor in ports)],
            domain=MICROSOFT,
        )
        for (past, tensor), value in zip(ports, presents, strict=True):
            value.type, value.shape = FLOAT, past.shape
            self.cache.append(CachePort(tensor, past, value))
        return b.op("Reshape", out, b.ints(-1, config.num_heads * dim))

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """One QMoE node, its result times the routing scale."""
        b = self.builder
        wanted = self._schemes.of(ROUTED_EXPERTS, self.layer)
        scheme = scheme_for(weights.matrices, wanted, ROUTED_EXPERTS, self.notes, floats=True)
        self.expert_schemes[scheme] += 1
        self._note_factors(scheme, weights)
        self._activations = INT8_ACTIVATIONS
        with b.scope("experts"):
            first = self._reserve_experts("gate_up_proj", weights.gate_up, scheme)
            second = self._reserve_experts("down_proj", weights.down, scheme)
            if not first.codes.kept:
                for e, (gate_up, down) in enumerate(zip(weights.gate_up, weights.down, strict=True)):
                    self._write_expert(first, gate_up, e)
                    self._write_expert(second, down, e)
            tensors = kernel_inputs(b, first), kernel_inputs(b, second)
            biases: list[ir.Value | None] = [None, None]
            if weights.gate_up_bias is not None and weights.down_bias is not None:
                biases = [
                    b.matrix(b.full_name("gate_up_proj.bias"), weights.gate_up_bias, ROUTED_EXPERTS),
                    b.matrix(b.full_name("down_proj.bias"), weights.down_bias, ROUTED_EXPERTS),
                ]
            inputs = qmoe_inputs(x, routing, *tensors, biases)
            attributes = qmoe_attributes(scheme, config, routing)
            out = b.op("QMoE", *inputs, attributes=attributes, domain=MICROSOFT)
            return scale(b, out, routing.scale)

    def _note_factors(self, scheme: Scheme, weights: ExpertWeights) -> None:
        """Published factors that are no powers of two make numbers with more digits than the kernel keeps."""
        factors = {s.native.factor for m in weights.matrices for s in m.sources if s.native is not None}
        if scheme.factor is None and any(math.frexp(factor or 1)[0] != 0.5 for factor in factors):
            self.notes.append(
                "routed experts: the factors of their NVFP4 are no powers of two, and the kernel keeps a weight's "
                "product with them as bfloat16: weights are off by at most 0.4 %; with --experts if by nothing"
            )

    def _write_expert(self, room: StoredCodes, matrix: Matrix, expert: int) -> None:
        """Put an expert's matrix at its place, and its factor."""
        suited, rows = room.suit(matrix), matrix.shape[0]
        coded = matrix.codes(suited.scheme, self._rounding, 0, rows)
        write_rows(room, room.keep(coded), expert * rows)
        if room.matrix_factors is not None:
            room.matrix_factors.write(np.array([coded.factor], np.float32), 4 * expert)

    def _reserve_experts(self, name: str, matrices: Sequence[Matrix], scheme: Scheme) -> StoredCodes:
        """Room for a projection of all experts, one after the other: [experts, rows, columns]."""
        b, shape, experts = self.builder, matrices[0].shape, (len(matrices),)
        return reserve_codes(b, b.full_name(name), shape, scheme, ROUTED_EXPERTS, matrices, experts)

    def _shared_port(self, layer: int, name: str, heads: int, dim: int) -> tuple[ir.Value, CacheTensor]:
        shape = ir.Shape([1, heads, "capacity", dim])
        past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=shape)
        return past, CacheTensor(past.name or "", f"present.{layer}.{name}", "shared", (heads, dim))

    def _product(self, x: ir.Value, stored: ir.Value | StoredCodes) -> ir.Value:
        if isinstance(stored, ir.Value):
            return self.builder.op("Gemm", x, stored, attributes={"transB": 1})
        rows, columns = stored.shape
        return self.builder.op(
            "MatMulNBits",
            *drop_absent_last([x, *kernel_inputs(self.builder, stored)]),
            attributes={
                "N": rows,
                "K": columns,
                "bits": stored.scheme.kernel_bits,
                "block_size": stored.scheme.block,
                "accuracy_level": self._activations,
            },
            domain=MICROSOFT,
        )
