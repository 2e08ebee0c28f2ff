"""The manifest of a bundle that nobody has made: what an export would write, on a lowering that writes nothing."""

from importlib.metadata import version

from moedge.export.checkpoint.outline import Outline
from moedge.export.graph.builder import Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.plans import LOWERINGS
from moedge.export.model.config import ModelConfig
from moedge.export.report import facts_of, kernel_of
from moedge.export.tokenizer.talking import Talking
from moedge.export.writing.unwritten import UnwrittenFile
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import NEAREST
from moedge.runtime.manifest import SCHEMA_VERSION, ExpertPlan, Manifest

_SILENT = Talking("", None, {}, (), None, "plain", None, ())  # how it talks is no matter of memory and speed


def outline_manifest(
    name: str, source: Outline, model: ModelConfig, context: int, schemes: SchemePlan, plan: ExpertPlan
) -> Manifest:
    """Without files; of an outline that nobody has walked yet."""
    builder = Builder(UnwrittenFile())
    lowering = LOWERINGS[plan](builder, schemes, NEAREST, [])
    build_decoder(lowering, source, model, context)
    groups = builder.weights.account.groups()
    kernels = [kernel for kernel, _ in lowering.expert_schemes.most_common()]
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        scheme=schemes.name,
        experts=kernel_of(plan, kernels),
        model=facts_of(model, groups, context, _SILENT),
        cache=tuple(port.tensor for port in lowering.cache),
        tensors=groups,
        files={},
        tools={"moedge": version("moedge")},
    )
