"""A lowering that notes what a layer's matrices read: those values become outputs of its graph."""

from dataclasses import dataclass

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import names_of
from moedge.export.graph.absorbed import absorbed_latent
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import ExpertWeights, Positions, Routing
from moedge.export.graph.mixer_inputs import Latents, Vector
from moedge.export.graph.standard import StandardLowering
from moedge.export.model.config import Experts, MultiHeadLatent
from moedge.quant.plan import EXACT
from moedge.quant.rounding import NEAREST
from moedge.runtime.manifest import ATTENTION, ROUTED_EXPERTS, GroupName


@dataclass(frozen=True)
class RoutedValues:
    """A layer's routed experts in its graph: what they read, whom each token goes to and how much each counts."""

    x: ir.Value  # [s, hidden_size]
    chosen: ir.Value  # [s, top_k]
    shares: ir.Value  # [s, top_k]
    weights: ExpertWeights


class HeadlessLowering(StandardLowering):
    """The exact fp32 lowering without a head's product; `read` is what the head would multiply."""

    def __init__(self, builder: Builder) -> None:
        super().__init__(builder, EXACT, NEAREST, [])
        self.read: ir.Value | None = None

    def head(self, hidden: ir.Value, matrix: Matrix | None) -> ir.Value:
        """Nothing is multiplied."""
        self.read = hidden
        return hidden


class RecordingLowering(StandardLowering):
    """The exact fp32 lowering; by the checkpoint's names of matrices, `inputs` are the values that these read."""

    def __init__(self, builder: Builder) -> None:
        super().__init__(builder, EXACT, NEAREST, [])
        self.inputs: dict[str, ir.Value] = {}
        self.groups: dict[str, GroupName] = {}
        self.routed: RoutedValues | None = None
        self._chosen: tuple[ir.Value, ir.Value] | None = None

    def linear(self, name: str, x: ir.Value, matrix: Matrix, group: GroupName, bias: Vector | None = None) -> ir.Value:
        """The exact product, noted."""
        self.inputs |= dict.fromkeys(names_of(matrix), x)
        self.groups |= dict.fromkeys(names_of(matrix), group)
        return super().linear(name, x, matrix, group, bias)

    def latent(self, layer: int, latents: Latents, config: MultiHeadLatent, where: Positions) -> ir.Value:
        """The exact attention; what the up-projection reads is noted."""
        names = names_of(latents.joint())
        self.groups |= dict.fromkeys(names, ATTENTION)

        def note(latent: ir.Value) -> None:
            self.inputs |= dict.fromkeys(names, latent)

        return absorbed_latent(self, layer, latents, config, where, note)

    def choose(self, routing: Routing, config: Experts) -> tuple[ir.Value, ir.Value]:
        """The exact choice, noted."""
        self._chosen = super().choose(routing, config)
        return self._chosen

    def experts(self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts) -> ir.Value:
        """The exact experts, noted."""
        out = super().experts(x, routing, weights, config)
        if self._chosen is None:
            raise AssertionError("experts without a choice among them")
        self.routed = RoutedValues(x, *self._chosen, weights)
        names = (name for matrix in weights.gate_up for name in names_of(matrix))
        self.inputs |= dict.fromkeys(names, x)
        all_names = (name for matrix in weights.matrices for name in names_of(matrix))
        self.groups |= dict.fromkeys(all_names, ROUTED_EXPERTS)
        return out
