"""The `fused` plan: ONNX Runtime's CPU kernels, one QMoE node a layer, MatMulNBits for everything dense.

QMoE's inputs and attributes are written down in docs/qmoe.md; routing stays explicit in fp32 beside it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import FLOAT, scale
from moedge.export.graph.builder import MICROSOFT, Attributes, Builder
from moedge.export.graph.grouped_query import plain_grouped_query, rotate
from moedge.export.graph.lowering import CachePort, ExpertWeights, Norm, Positions, Routing
from moedge.export.graph.positions import build_positions
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

# MatMulNBits' and QMoE's accuracy_level
FP32_ACTIVATIONS = 1
INT8_ACTIVATIONS = 4


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
        codes, scales, zeros = row_inputs(b, stored)
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
        scheme = scheme_for(weights.matrices, self._schemes.of(ROUTED_EXPERTS, self.layer), ROUTED_EXPERTS, self.notes)
        self.expert_schemes[scheme] += 1
        self._activations = INT8_ACTIVATIONS
        with b.scope("experts"):
            first = self._reserve_experts("gate_up_proj", weights.gate_up, scheme)
            second = self._reserve_experts("down_proj", weights.down, scheme)
            if not first.codes.kept:
                for e, (gate_up, down) in enumerate(zip(weights.gate_up, weights.down, strict=True)):
                    write_rows(first, self._encode(first, gate_up), e * gate_up.shape[0])
                    write_rows(second, self._encode(second, down), e * down.shape[0])
            tensors = kernel_inputs(b, first), kernel_inputs(b, second)
            biases: list[ir.Value | None] = [None, None]
            if weights.gate_up_bias is not None and weights.down_bias is not None:
                biases = [
                    b.matrix(b.full_name("gate_up_proj.bias"), weights.gate_up_bias, ROUTED_EXPERTS),
                    b.matrix(b.full_name("down_proj.bias"), weights.down_bias, ROUTED_EXPERTS),
                ]
            inputs = qmoe_inputs(x, routing, *tensors, biases)
            out = b.op("QMoE", *inputs, attributes=qmoe_attributes(scheme, config), domain=MICROSOFT)
            return scale(b, out, routing.scale)

    def _encode(self, room: StoredCodes, matrix: Matrix) -> tuple[NDArray[Any], ...]:
        return room.encode(matrix, self._rounding, 0, matrix.shape[0])

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


def qmoe_inputs(
    x: ir.Value,
    routing: Routing,
    first: Sequence[ir.Value | None],
    second: Sequence[ir.Value | None],
    biases: Sequence[ir.Value | None] = (None, None),
) -> list[ir.Value | None]:
    """QMoE's inputs by position; `first` and `second` are codes, scales and zero points of a projection."""
    named = {
        "input": x,
        "router_probs": routing.select,
        "fc1_experts_weights": first[0],
        "fc1_scales": first[1],
        "fc1_experts_bias": biases[0],
        "fc2_experts_weights": second[0],
        "fc2_scales": second[1],
        "fc2_experts_bias": biases[1],
        "fc3_experts_weights": None,
        "fc3_scales": None,
        "fc3_experts_bias": None,
        "fc1_zero_points": first[2],
        "fc2_zero_points": second[2],
        "fc3_zero_points": None,
        "router_weights": routing.weigh,
    }
    return drop_absent_last([*named.values()])


def drop_absent_last(inputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    """An operator's inputs without the absent ones after the last that is there."""
    last = max(place for place, value in enumerate(inputs) if value is not None)
    return [*inputs[: last + 1]]


def qmoe_attributes(scheme: Scheme, config: Experts) -> Attributes:
    """QMoE's attributes for gated experts in a scheme."""
    limit: Attributes = {} if config.gate.limit is None else {"swiglu_limit": config.gate.limit}
    return limit | {
        "k": config.num_experts_per_tok,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": config.gate.alpha,
        "activation_beta": config.gate.beta,
        "expert_weight_bits": scheme.kernel_bits,
        "block_size": scheme.block,
        "normalize_routing_weights": 0,  # routing.py did, where the router does
        "accuracy_level": INT8_ACTIVATIONS,
    }
