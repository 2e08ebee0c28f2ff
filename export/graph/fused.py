"""The `fused` plan: ONNX Runtime's CPU kernels, one QMoE node a layer, MatMulNBits for everything dense.

QMoE's inputs and attributes are qmoe.py's; routing stays explicit in fp32 beside it.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.arithmetic import FLOAT, add_bias, scale
from moedge.export.graph.builder import MICROSOFT, Attributes, Builder, drop_absent_last
from moedge.export.graph.grouped_query import OpenHeads, open_heads, plain_grouped_query, rotate
from moedge.export.graph.inputs import MaskInputs
from moedge.export.graph.kernel_lowering import KernelLowering
from moedge.export.graph.lowering import CachePort, ExpertWeights, Positions, Routing
from moedge.export.graph.mixer_inputs import DeltaInputs, Heads, MambaInputs, Vector
from moedge.export.graph.plain_parts import PlainParts
from moedge.export.graph.positions import build_positions
from moedge.export.graph.qmoe import FP32_ACTIVATIONS, INT8_ACTIVATIONS, qmoe_attributes, qmoe_inputs, up_twice
from moedge.export.graph.recurrence import Steps, keep_state, recur_delta_net, recur_mamba2, state_port
from moedge.export.graph.stored_values import kernel_inputs, row_inputs
from moedge.export.graph.storing import StoredCodes, reserve_codes, store_quantized, write_rows
from moedge.export.model.config import Experts, GroupedQuery, Mixer
from moedge.export.model.recurrent import DeltaNet, Mamba2
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import ROUTED_EXPERTS, CacheTensor, GroupName


class FusedLowering(PlainParts, KernelLowering[StoredCodes]):
    """Lowers a decoder to ONNX Runtime's contributed operators."""

    def __init__(self, builder: Builder, schemes: SchemePlan, rounding: Rounding, notes: list[str]) -> None:
        super().__init__(builder, schemes, rounding, notes)
        self.graph_inputs = MaskInputs()
        self._lengths: tuple[ir.Value, ir.Value] | None = None

    def positions(self, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int) -> Positions:
        """Lengths, masks, and the whole rotary tables [context, dim / 2], which the kernels index."""
        b = self.builder
        where, total = build_positions(b, self.graph_inputs, tokens, mixers, context)
        total_32 = b.op("Cast", total, attributes={"to": ir.DataType.INT32.value})
        last = b.op("Sub", total_32, b.constant(np.array([1], np.int32)))
        self._lengths = last, b.op("Squeeze", total_32, b.ints(0))
        return where

    def grouped_query(self, layer: int, heads: Heads, config: GroupedQuery, where: Positions) -> ir.Value:
        """GroupQueryAttention, which extends a shared cache buffer in place and, where it can, rotates."""
        opened, dim = open_heads(self.builder, heads, config), config.head_dim
        if not dim % 8:
            return self._attend(layer, opened, config, where)
        self.notes.append(f"attention: heads of {dim} do not fit ONNX Runtime's kernel, so plain operators run it")
        return plain_grouped_query(self, layer, opened, config, where)

    def _attend(self, layer: int, heads: OpenHeads, config: GroupedQuery, where: Positions) -> ir.Value:
        b, kv, dim = self.builder, config.num_kv_heads, config.head_dim
        if self._lengths is None:
            raise AssertionError("positions come before attention")
        q, k, tables = heads.q, heads.k, self._turn(config, where)
        if tables is None:
            q = rotate(self, q, config.num_heads, dim, config.rope, where)
            k = rotate(self, k, kv, dim, config.rope, where)
        parts = (q, config.num_heads), (k, kv), (heads.v, kv)
        flat = [b.op("Reshape", t, b.ints(1, -1, n * dim)) for t, n in parts]
        window = config.window if where.hides(config) else 0
        ports = [self._shared_port(layer, name, (kv, dim), window) for name in ("key", "value")]
        position_ids = attention_bias = None
        turning = tables or (None, None)
        inputs = [*flat, *(past for past, _ in ports), *self._lengths, *turning, position_ids, attention_bias]
        attributes: Attributes = {"num_heads": config.num_heads, "kv_num_heads": kv, "scale": config.scale}
        attributes["do_rotary"] = int(tables is not None)
        if window:
            attributes["local_window_size"] = window
        out, *presents = b.ops(
            "GroupQueryAttention",
            *drop_absent_last([*inputs, heads.sinks]),
            attributes=attributes,
            outputs=[b.full_name("context"), *(tensor.present for _, tensor in ports)],
            domain=MICROSOFT,
        )
        for (past, tensor), value in zip(ports, presents, strict=True):
            value.type, value.shape = FLOAT, past.shape
            self.cache.append(CachePort(tensor, past, value))
        return b.op("Reshape", out, b.ints(-1, config.num_heads * dim))

    def _turn(self, config: GroupedQuery, where: Positions) -> tuple[ir.Value, ir.Value] | None:
        """The rotary tables, if the kernel is to rotate and can."""
        rope = config.rope
        if rope is None or config.head_dim % 16 or rope.dim % 16 or where.rotary[rope].switch:
            return None
        return where.rotary[rope].cos, where.rotary[rope].sin

    def delta_net(self, layer: int, given: DeltaInputs, config: DeltaNet) -> ir.Value:
        """LinearAttention within plain operators."""
        return recur_delta_net(self.builder, layer, given, config, self._recur)

    def mamba2(self, layer: int, given: MambaInputs, config: Mamba2) -> ir.Value:
        """The same."""
        return recur_mamba2(self.builder, layer, given, config, self._recur)

    def _recur(self, layer: int, steps: Steps) -> ir.Value:
        """One LinearAttention node. GatedDeltaNet, which does the same, takes ten times as long and more."""
        b, (heads, keys, values) = self.builder, steps.state
        past, tensor = state_port(layer, "recurrent_state", steps.state)
        widths = (steps.q, steps.key_heads * keys), (steps.k, steps.key_heads * keys), (steps.v, heads * values)
        flat = [b.op("Reshape", x, b.ints(1, -1, width)) for x, width in widths]
        decay = b.op("Reshape", steps.decay, b.ints(1, -1, heads * (keys if steps.by_channel else 1)))
        beta = None if steps.beta is None else b.op("Unsqueeze", steps.beta, b.ints(0))
        out, present = b.ops(
            "LinearAttention",
            *drop_absent_last([*flat, past, decay, beta]),
            attributes={
                "q_num_heads": steps.key_heads,
                "kv_num_heads": heads,
                "update_rule": "gated" if beta is None else "gated_delta",
                "scale": 1.0,
            },
            outputs=[b.full_name("recurred"), tensor.present],
            domain=MICROSOFT,
        )
        keep_state(self.cache, past, tensor, present)
        return b.op("Reshape", out, b.ints(-1, heads, values))

    def causal_convolution(self, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
        """One CausalConvWithState node."""
        b, (kernel, channels) = self.builder, taps.values.shape
        past, tensor = state_port(layer, "conv_state", (kernel - 1, channels))
        weight = np.ascontiguousarray(taps.values.T)[:, None]  # [channels, 1, kernel]
        stored = b.matrix(taps.name, weight, taps.group)
        out, present = b.ops(
            "CausalConvWithState",
            *(b.op("Unsqueeze", x, b.ints(0)), stored, bias.store(b) if bias else None, past),
            attributes={"channels_last": 1, "activation": "silu"},
            outputs=[b.full_name("convolved"), tensor.present],
            domain=MICROSOFT,
        )
        keep_state(self.cache, past, tensor, present)
        return b.op("Squeeze", out, b.ints(0))

    def _shared_port(self, layer: int, name: str, shape: tuple[int, int], window: int) -> tuple[ir.Value, CacheTensor]:
        heads, dim = shape
        value = ir.Value(
            name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=ir.Shape([1, heads, "capacity", dim])
        )
        return value, CacheTensor(value.name or "", f"present.{layer}.{name}", "shared", shape, window)

    def store(self, name: str, matrix: Matrix, scheme: Scheme, group: GroupName) -> StoredCodes:
        """As codes in the layout of quant/blocks.py."""
        return store_quantized(self.builder, name, matrix, scheme, self.rounding, group)

    def look_up(self, ids: ir.Value, table: StoredCodes) -> ir.Value:
        """GatherBlockQuantized over the same bytes that a tied head multiplies."""
        codes, scales, zeros, _ = row_inputs(self.builder, table)
        bits, block = table.scheme.kernel_bits, table.scheme.block
        return self.builder.op(
            "GatherBlockQuantized",
            *drop_absent_last([codes, ids, scales, zeros]),
            attributes={"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1},
            domain=MICROSOFT,
        )

    def multiply(self, x: ir.Value, stored: StoredCodes, bias: Vector | None) -> ir.Value:
        """MatMulNBits."""
        rows, columns = stored.shape
        out = self.builder.op(
            "MatMulNBits",
            *drop_absent_last([x, *kernel_inputs(self.builder, stored)]),
            attributes={
                "N": rows,
                "K": columns,
                "bits": stored.scheme.kernel_bits,
                "block_size": stored.scheme.block,
                "accuracy_level": FP32_ACTIVATIONS if self.exact_activations else INT8_ACTIVATIONS,
            },
            domain=MICROSOFT,
        )
        return add_bias(self.builder, out, bias)

    def mixture(
        self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts, scheme: Scheme
    ) -> ir.Value:
        """One QMoE node, its result times the routing scale."""
        b = self.builder
        self._note_factors(scheme, weights)
        gate_up = [up_twice(matrix, config.gate) for matrix in weights.gate_up]
        first = self._reserve_experts("gate_up_proj", gate_up, scheme)
        second = self._reserve_experts("down_proj", weights.down, scheme)
        if not first.codes.kept:
            for e, matrices in enumerate(zip(gate_up, weights.down, strict=True)):
                for room, matrix in zip((first, second), matrices, strict=True):
                    self._write_expert(room, matrix, e)
        tensors = kernel_inputs(b, first), kernel_inputs(b, second)
        inputs = qmoe_inputs(x, routing, *tensors, self.expert_biases(weights))
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
        coded = matrix.codes(suited.scheme, self.rounding, 0, rows)
        write_rows(room, room.keep(coded), expert * rows)
        if room.matrix_factors is not None:
            room.matrix_factors.write(np.array([coded.factor], np.float32), 4 * expert)

    def _reserve_experts(self, name: str, matrices: Sequence[Matrix], scheme: Scheme) -> StoredCodes:
        """Room for a projection of all experts, one after the other: [experts, rows, columns]."""
        b, shape, experts = self.builder, matrices[0].shape, (len(matrices),)
        return reserve_codes(b, b.full_name(name), shape, scheme, ROUTED_EXPERTS, matrices, experts)
