"""The plans by name: how each of them lowers a decoder."""

from collections.abc import Callable, Mapping

from moedge.export.graph.builder import Builder
from moedge.export.graph.fused import FusedLowering
from moedge.export.graph.lowering import Lowering
from moedge.export.graph.native import NativeLowering
from moedge.export.graph.standard import StandardLowering
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.runtime.manifest import ExpertPlan

Lower = Callable[[Builder, SchemePlan, Rounding, list[str]], Lowering]
LOWERINGS: Mapping[ExpertPlan, Lower] = {"native": NativeLowering, "fused": FusedLowering, "if": StandardLowering}
