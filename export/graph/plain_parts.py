"""The parts of a decoder that the `fused` and the `if` plan write alike, in plain operators."""

from functools import partial

import onnx_ir as ir

from moedge.export.graph.absorbed import absorbed_latent
from moedge.export.graph.attention import plain_gate
from moedge.export.graph.convolution import plain_causal_convolution, plain_convolution
from moedge.export.graph.lowering import GatedMlp, Lowering, Positions, RouterWeights, Routing
from moedge.export.graph.mixer_inputs import Convolved, DeltaInputs, Latents, MambaInputs, Vector
from moedge.export.graph.mlp import plain_mlp, plain_shared
from moedge.export.graph.recurrence import plain_recurrence, recur_delta_net, recur_mamba2
from moedge.export.graph.routing import plain_routing
from moedge.export.model.config import Experts, MultiHeadLatent, OutputGate
from moedge.export.model.recurrent import DeltaNet, Mamba2


class PlainParts:
    """Some of a `Lowering`."""

    def latent(self: Lowering, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        """Absorbed."""
        return absorbed_latent(self, layer, latents, config, where)

    def open_gate(self: Lowering, out: ir.Value, gate: ir.Value, how: OutputGate, heads: int, dim: int) -> ir.Value:
        """A product with Sigmoid or Softplus."""
        return plain_gate(self.builder, out, gate, how, heads)

    def convolve(self: Lowering, layer: int, given: Convolved) -> ir.Value:
        """A product and a sum a tap."""
        return plain_convolution(self, layer, given)

    def causal_convolution(self: Lowering, layer: int, x: ir.Value, taps: Vector, bias: Vector | None) -> ir.Value:
        """A product and a sum a tap."""
        return plain_causal_convolution(self, layer, x, taps, bias)

    def delta_net(self: Lowering, layer: int, given: DeltaInputs, config: DeltaNet) -> ir.Value:
        """A Scan over tokens."""
        return recur_delta_net(self.builder, layer, given, config, partial(plain_recurrence, self))

    def mamba2(self: Lowering, layer: int, given: MambaInputs, config: Mamba2) -> ir.Value:
        """The same."""
        return recur_mamba2(self.builder, layer, given, config, partial(plain_recurrence, self))

    def mlp(self: Lowering, x: ir.Value, weights: GatedMlp) -> ir.Value:
        """Two products with a gate between them."""
        return plain_mlp(self, x, weights)

    def add_shared(
        self: Lowering, x: ir.Value, routed: ir.Value, weights: GatedMlp, gate: RouterWeights | None
    ) -> ir.Value:
        """The same, added."""
        return plain_shared(self, x, routed, weights, gate)

    def route(self: Lowering, x: ir.Value, weights: RouterWeights, config: Experts) -> Routing:
        """A product and what docs/qmoe.md shows."""
        return plain_routing(self.builder, x, weights, config)
