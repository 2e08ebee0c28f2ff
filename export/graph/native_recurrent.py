"""Recurrent layers in the `native` plan, one of our operators each over memory of many states; gates of attention."""

from collections.abc import Sequence

import onnx_ir as ir

from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.builder import MOEDGE, Attributes, Builder, drop_absent_last
from moedge.export.graph.inputs import SegmentInputs
from moedge.export.graph.lowering import CachePort
from moedge.export.graph.mixer_inputs import DeltaInputs, MambaInputs, Vector
from moedge.export.model.config import OutputGate
from moedge.export.model.recurrent import DeltaNet, Mamba2
from moedge.runtime.manifest import CacheTensor

UNLIMITED = 3.4e38  # an attribute that stands for no limit


class NativeRecurrent:
    """Some of the native plan's `Lowering`."""

    builder: Builder
    cache: list[CachePort]
    graph_inputs: SegmentInputs

    def causal_convolution(self, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
        """One CausalConvolution node, SiLU included."""
        b, (kernel, channels) = self.builder, taps.values.shape
        weights = [b.matrix(taps.name, taps.values, taps.group), bias.store(b) if bias else None]
        attributes: Attributes = {"channels": channels, "kernel": kernel, "layer": layer}
        return self._recur("CausalConvolution", [x], weights, attributes, "conv_state", (kernel - 1, channels))

    def delta_net(self, layer: int, given: DeltaInputs, config: DeltaNet) -> ir.Value:
        """One DeltaNet node: gates, recurrence, norm."""
        attributes: Attributes = {
            "key_heads": config.key_heads,
            "value_heads": config.value_heads,
            "key_dim": config.key_dim,
            "value_dim": config.value_dim,
            "scale": config.key_dim**-0.5,
            "eps": config.norm_eps,
            "per_channel": int(config.channel_decay),
            "decay": "softplus" if config.lower_bound is None else "bounded",
            "lower_bound": config.lower_bound or 0.0,
            "gate_activation": config.gate,
            "layer": layer,
        }
        weights = [vector.store(self.builder) for vector in (given.a, given.dt_bias, given.norm)]
        tokens = [given.mixed, given.gate, given.beta, given.decay]
        return self._recur("DeltaNet", tokens, weights, attributes, "recurrent_state", config.state)

    def mamba2(self, layer: int, given: MambaInputs, config: Mamba2) -> ir.Value:
        """One Mamba2 node: steps, recurrence, gate, norm."""
        least, most = config.time_step_limit
        attributes: Attributes = {
            "heads": config.heads,
            "head_dim": config.head_dim,
            "groups": config.groups,
            "state": config.state_size,
            "norm_groups": config.norm_groups,
            "eps": config.norm_eps,
            "dt_min": float(least),
            "dt_max": min(float(most), UNLIMITED),
            "layer": layer,
        }
        weights = [vector.store(self.builder) for vector in (given.a, given.dt_bias, given.d, given.norm)]
        tokens = [given.mixed, given.gate, given.dt]
        return self._recur("Mamba2", tokens, weights, attributes, "recurrent_state", config.state)

    def open_gate(self, out: ir.Value, gate: ir.Value, how: OutputGate, heads: int, dim: int) -> ir.Value:
        """One OutputGate node."""
        attributes: Attributes = {
            "width": heads * dim,
            "gates": heads if how.per_head else heads * dim,
            "activation": how.activation,
        }
        return self.builder.op("OutputGate", out, gate, attributes=attributes, domain=MOEDGE)

    def _recur(
        self,
        kind: str,
        tokens: Sequence[ir.Value],
        weights: Sequence[ir.Value | None],
        attributes: Attributes,
        name: str,
        shape: tuple[int, ...],
    ) -> ir.Value:
        """A node of that kind over the states of a layer, whose memory it is given whole and extends in place."""
        b, layer, told = self.builder, attributes["layer"], self.graph_inputs
        past = ir.Value(name=f"past_key_values.{layer}.{name}", type=FLOAT, shape=ir.Shape([f"{name}s", *shape]))
        inputs = [*tokens, past, told.segments, told.states, *weights]
        out, present = b.ops(
            kind,
            *drop_absent_last(inputs),
            attributes=attributes,
            outputs=[b.full_name(kind), f"present.{layer}.{name}"],
            domain=MOEDGE,
        )
        present.type, present.shape = FLOAT, past.shape
        tensor = CacheTensor(past.name or "", present.name or "", "states", shape)
        self.cache.append(CachePort(tensor, past, present))
        return out
