"""The `fused` plan: ONNX Runtime's CPU kernels, one QMoE node a layer, MatMulNBits for everything dense.

QMoE's inputs and attributes are written down in docs/qmoe.md; routing stays explicit in fp32 beside it.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.builder import MICROSOFT, Attributes, Builder
from moedge.export.graph.grouped_query import plain_grouped_query, rotate
from moedge.export.graph.lowering import CachePort, ExpertBiases, ExpertWeights, Norm, Positions, Routing
from moedge.export.graph.positions import shared_positions
from moedge.export.graph.storing import StoredCodes, note_other_scheme, scale_codes, scheme_for, store_quantized
from moedge.export.model.config import Experts, GroupedQuery, ModelConfig
from moedge.export.model.rope import Rope
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import Codes, interleave_rows
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import CacheTensor

# MatMulNBits' and QMoE's accuracy_level
FP32_ACTIVATIONS = 1
INT8_ACTIVATIONS = 4


class FusedLowering:
    """Lowers a decoder to ONNX Runtime's contributed operators."""

    def __init__(self, builder: Builder, scheme: Scheme, notes: list[str]) -> None:
        self.builder = builder
        self.cache: list[CachePort] = []
        self.notes = notes
        self.expert_scheme: Scheme | None = None
        self._scheme = scheme
        self._table: StoredCodes | None = None
        self._lengths: tuple[ir.Value, ir.Value] | None = None
        self._switches = False  # LongRoPE has two sets of frequencies within the context
        # Until the first router has decided, activations stay fp32: its choices are then those of the exact twin.
        self._activations = FP32_ACTIVATIONS

    def positions(self, attention_mask: ir.Value, input_ids: ir.Value, model: ModelConfig, context: int) -> Positions:
        """Lengths, masks, and the whole rotary tables [context, dim / 2], which the kernels index."""
        b = self.builder
        where, total = shared_positions(b, attention_mask, input_ids, model, context)
        total_32 = b.op("Cast", total, attributes={"to": ir.DataType.INT32.value})
        last = b.op("Sub", total_32, b.constant(np.array([1], np.int32)))
        self._lengths = last, b.op("Squeeze", total_32, b.ints(0))
        self._switches = bool(model.rope.switches(context))
        return where

    def embedding(self, input_ids: ir.Value, table: Matrix, tied: bool) -> ir.Value:
        """GatherBlockQuantized over the same bytes that a tied head multiplies."""
        b, (rows, columns) = self.builder, table.shape
        scheme = scheme_for((table,), self._scheme, "model.embed_tokens", self.notes)
        stored = store_quantized(b, "model.embed_tokens", table, scheme, "embedding")
        self._table = stored if tied else None
        width = columns * scheme.bits // 8
        codes = b.initializer(
            b.weights.alias(stored.codes, "model.embed_tokens.rows", ir.DataType.UINT8, (rows, width))
        )
        zeros = b.initializer(stored.zero_points.tensor) if stored.zero_points else None
        ids = b.op("Squeeze", input_ids, b.ints(0))  # [s]
        return b.op(
            "GatherBlockQuantized",
            *(codes, ids, b.initializer(stored.scales.tensor), *([zeros] if zeros else [])),
            attributes={"bits": scheme.bits, "block_size": scheme.block, "gather_axis": 0, "quantize_axis": 1},
            domain=MICROSOFT,
        )

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Logits."""
        if matrix is not None:
            return self.linear("lm_head", hidden, matrix, "lm_head")
        if self._table is None:
            raise AssertionError("a tied head needs the embedding first")
        return self._product(hidden, self._table)

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: str) -> ir.Value:
        """MatMulNBits."""
        full = self.builder.scoped(name)
        scheme = scheme_for((matrix,), self._scheme, full, self.notes)
        return self._product(x, store_quantized(self.builder, full, matrix, scheme, group))

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
        b = self.builder
        flat = b.op("Reshape", x, b.ints(1, -1, heads * rope.dim))
        ids = b.op("Unsqueeze", where.rows, b.ints(0))
        turned = b.op("RotaryEmbedding", flat, ids, where.cos, where.sin, domain=MICROSOFT)
        return b.op("Reshape", turned, b.ints(-1, heads, rope.dim))

    def grouped_query(
        self,
        layer: int,
        heads: tuple[ir.Value, ir.Value, ir.Value],
        config: GroupedQuery,
        rope: Rope,
        sinks: ir.Value | None,
        where: Positions,
    ) -> ir.Value:
        """GroupQueryAttention, which extends a shared cache buffer in place and, where it can, rotates."""
        b, kv, dim = self.builder, config.num_kv_heads, config.head_dim
        if self._lengths is None:
            raise AssertionError("positions come before attention")
        if dim % 8:
            self.notes.append(f"attention: heads of {dim} do not fit ONNX Runtime's kernel, so plain operators run it")
            return plain_grouped_query(self, layer, heads, config, rope, sinks, where)
        q, k, v = heads
        rotates = dim % 16 == 0 and rope.dim % 16 == 0 and not self._switches
        if not rotates:
            q = rotate(self, q, config.num_heads, dim, rope, where)
            k = rotate(self, k, kv, dim, rope, where)
        flat = [b.op("Reshape", t, b.ints(1, -1, n * dim)) for t, n in ((q, config.num_heads), (k, kv), (v, kv))]
        ports = [self._shared_port(layer, name, kv, dim) for name in ("key", "value")]
        inputs: list[ir.Value | None] = [*flat, *(past for past, _ in ports), *self._lengths]
        inputs += [where.cos, where.sin] if rotates else [None, None]
        inputs += [None, None, sinks]  # position_ids and attention_bias come before
        while inputs[-1] is None:
            inputs.pop()
        attributes: Attributes = {"num_heads": config.num_heads, "kv_num_heads": kv, "scale": config.scale}
        attributes["do_rotary"] = int(rotates)
        if where.window is not None and config.window(layer):
            attributes["local_window_size"] = config.window(layer)
        out, *presents = b.ops(
            "GroupQueryAttention",
            *inputs,
            attributes=attributes,
            outputs=[b.scoped("context"), *(tensor.present for _, tensor in ports)],
            domain=MICROSOFT,
        )
        for (past, tensor), value in zip(ports, presents, strict=True):
            value.type, value.shape = FLOAT, past.shape
            self.cache.append(CachePort(tensor, past, value))
        return b.op("Reshape", out, b.ints(-1, config.num_heads * dim))

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """One QMoE node: the routing scale goes into the second projection, gate and up rows alternate."""
        b = self.builder
        matrices = (*weights.gate, *weights.up, *weights.down)
        scheme = scheme_for(matrices, self._scheme, "routed experts", self.notes)
        note_other_scheme(self, scheme)
        self._activations = INT8_ACTIVATIONS
        with b.scope("experts"):
            first = self._expert_regions("gate_up_proj", weights.gate[0].shape, 2, config.num_experts, scheme)
            second = self._expert_regions("down_proj", weights.down[0].shape, 1, config.num_experts, scheme)
            for e in () if first[0].kept else range(config.num_experts):
                gate, up = (_whole(m[e], scheme) for m in (weights.gate, weights.up))
                _write_expert(first, e, _interleaved(gate, up))
                _write_expert(second, e, scale_codes(_whole(weights.down[e], scheme), routing.scale))
            count = sum(m.shape[0] * m.shape[1] for m in matrices)
            b.weights.account("routed experts", scheme.name, count, sum(r.nbytes for r in (*first, *second)))
            b.weights.origins.add("routed experts", matrices, scheme)
            codes1, scales1, *zeros1 = (b.initializer(r.tensor) for r in first)
            codes2, scales2, *zeros2 = (b.initializer(r.tensor) for r in second)
            bias1, bias2 = self._expert_biases(weights.biases, routing.scale)
            inputs: list[ir.Value | None] = [x, routing.select, codes1, scales1, bias1, codes2, scales2, bias2]
            inputs += [None, None, None, *(zeros1 or (None,)), *(zeros2 or (None,)), None, routing.weigh]
            while inputs[-1] is None:
                inputs.pop()
            return b.op("QMoE", *inputs, attributes=qmoe_attributes(scheme, config), domain=MICROSOFT)

    def _expert_biases(self, biases: ExpertBiases | None, scale: float) -> tuple[ir.Value | None, ir.Value | None]:
        """Biases of both projections, gate and up alternating, the second with the routing scale; None without any."""
        if biases is None:
            return None, None
        b = self.builder
        first = np.stack([interleave_rows(gate, up) for gate, up in zip(biases.gate, biases.up, strict=True)])
        return (
            b.matrix(b.scoped("gate_up_proj.bias"), first, "routed experts"),
            b.matrix(b.scoped("down_proj.bias"), biases.down * np.float32(scale), "routed experts"),
        )

    def _expert_regions(
        self, name: str, shape: tuple[int, int], times: int, experts: int, scheme: Scheme
    ) -> tuple[Region, ...]:
        rows, columns = shape[0] * times, shape[1]
        full, file = self.builder.scoped(name), self.builder.weights
        blocks = columns // scheme.block
        codes = file.region(f"{full}.codes", ir.DataType.UINT8, (experts, rows, columns * scheme.bits // 8))
        scales = file.region(f"{full}.scales", ir.DataType.FLOAT, (experts, rows, blocks))
        if not scheme.zero_point:
            return codes, scales
        zeros = file.region(f"{full}.zero_points", ir.DataType.UINT8, (experts, rows, blocks * scheme.bits // 8))
        return codes, scales, zeros

    def _shared_port(self, layer: int, name: str, heads: int, dim: int) -> tuple[ir.Value, CacheTensor]:
        shape = ir.Shape([1, heads, "capacity", dim])
        past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=shape)
        return past, CacheTensor(past.name or "", f"present.{layer}.{name}", "shared", (heads, dim))

    def _product(self, x: ir.Value, stored: StoredCodes) -> ir.Value:
        b, (rows, columns) = self.builder, stored.shape
        regions = [stored.codes, stored.scales, *([stored.zero_points] if stored.zero_points else [])]
        return b.op(
            "MatMulNBits",
            *(x, *(b.initializer(r.tensor) for r in regions)),
            attributes={
                "N": rows,
                "K": columns,
                "bits": stored.scheme.bits,
                "block_size": stored.scheme.block,
                "accuracy_level": self._activations,
            },
            domain=MICROSOFT,
        )


def qmoe_attributes(scheme: Scheme, config: Experts) -> Attributes:
    """QMoE's attributes for gated experts in a scheme."""
    limit: Attributes = {} if config.gate.limit is None else {"swiglu_limit": config.gate.limit}
    return limit | {
        "k": config.num_experts_per_tok,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": config.gate.alpha,
        "activation_beta": config.gate.beta,
        "expert_weight_bits": scheme.bits,
        "block_size": scheme.block,
        "normalize_routing_weights": 0,  # routing.py did, where the router does
        "accuracy_level": INT8_ACTIVATIONS,
    }


def _whole(matrix: Matrix, scheme: Scheme) -> Codes:
    return matrix.codes(scheme, 0, matrix.shape[0])


def _interleaved(gate: Codes, up: Codes) -> Codes:
    zeros = None
    if gate.zero_points is not None and up.zero_points is not None:
        zeros = interleave_rows(gate.zero_points, up.zero_points)
    codes, scales = interleave_rows(gate.codes, up.codes), interleave_rows(gate.scales, up.scales)
    return Codes(codes, scales, zeros, gate.bits, gate.block)


def _write_expert(regions: Sequence[Region], expert: int, codes: Codes) -> None:
    arrays = (codes.codes, codes.scales, codes.zero_points)
    present = [array for array in arrays if array is not None]
    for region, array in zip(regions, present, strict=True):
        region.write(array, expert * array.nbytes)
