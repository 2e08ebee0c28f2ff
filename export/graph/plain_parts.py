"""The parts of a decoder that the `fused` and the `if` plan write alike, in plain operators."""

import onnx_ir as ir

from moedge.export.graph.absorbed import absorbed_latent
from moedge.export.graph.convolution import plain_convolution
from moedge.export.graph.lowering import (
    Convolved,
    GatedMlp,
    Latents,
    Lowering,
    Positions,
    RouterWeights,
    Routing,
)
from moedge.export.graph.mlp import plain_mlp, plain_shared
from moedge.export.graph.routing import plain_routing
from moedge.export.model.config import Experts, MultiHeadLatent


class PlainParts:
    """Some of a `Lowering`."""

    def latent(self: Lowering, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        """Absorbed."""
        return absorbed_latent(self, layer, latents, config, where)

    def convolve(self: Lowering, layer: int, given: Convolved) -> ir.Value:
        """A product and a sum a tap."""
        return plain_convolution(self, layer, given)

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
