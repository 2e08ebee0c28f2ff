"""The `native` plan: moedge's own kernels for all quantized weights, which they read in the file as they lie.

docs/kernels.md has the operators and their layout; everything without quantized weights is as in the `fused` plan.
"""

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.graph.builder import MOEDGE, Attributes, drop_absent_last
from moedge.export.graph.kernel_lowering import KernelLowering
from moedge.export.graph.lowering import ExpertWeights, Routing
from moedge.export.graph.tiled import StoredTiles, store_tiles
from moedge.export.model.config import Experts
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import ROUTED_EXPERTS, GroupName

EXACT_BITS, COARSE_BITS = 24, 8  # of activations, as Linear takes them: 24 are as good as fp32


class NativeLowering(KernelLowering[StoredTiles]):
    """Lowers a decoder to moedge's operators and ONNX Runtime's contributed ones."""

    def store(self, name: str, matrix: Matrix, scheme: Scheme, group: GroupName) -> StoredTiles:
        """As tile rows."""
        return store_tiles(self.builder, name, (matrix,), scheme, self.rounding, group)

    def look_up(self, ids: ir.Value, table: StoredTiles) -> ir.Value:
        """Embedding over the same tile rows that a tied head multiplies."""
        return self._run("Embedding", ids, table, {})

    def multiply(self, x: ir.Value, stored: StoredTiles) -> ir.Value:
        """Linear."""
        bits = EXACT_BITS if self.exact_activations else COARSE_BITS
        return self._run("Linear", x, stored, {"activation_bits": bits})

    def mixture(
        self, x: ir.Value, routing: Routing, weights: ExpertWeights, config: Experts, scheme: Scheme
    ) -> ir.Value:
        """One Experts node, which adds biases and scales its result itself."""
        b, gate = self.builder, config.gate
        first, second = (
            store_tiles(b, b.full_name(name), part, scheme, self.rounding, ROUTED_EXPERTS, stacked=True, paired=paired)
            for name, part, paired in (("gate_up_proj", weights.gate_up, True), ("down_proj", weights.down, False))
        )
        tiles = (b.initializer(stored.region.tensor) for stored in (first, second))
        inputs = [x, routing.select, routing.weigh, *tiles, *self.expert_biases(weights)]
        if self.layer is None:
            raise AssertionError("experts belong to a layer")
        hidden, inter = second.shape
        attributes: Attributes = first.format | {
            "k": config.num_experts_per_tok,
            "hidden": hidden,
            "inter": inter,
            "activation": "swiglu",
            "alpha": gate.alpha,
            "beta": gate.beta,
            "limit": gate.limit or 0.0,
            "routing_scale": routing.scale,
            "layer": self.layer,
        }
        return b.op("Experts", *drop_absent_last(inputs), attributes=attributes, domain=MOEDGE)

    def _run(self, kind: str, given: ir.Value, stored: StoredTiles, more: Attributes) -> ir.Value:
        """One of the operators over a single matrix."""
        b, (rows, columns) = self.builder, stored.shape
        attributes = stored.format | {"rows": rows, "columns": columns} | more
        return b.op(kind, given, b.initializer(stored.region.tensor), attributes=attributes, domain=MOEDGE)
