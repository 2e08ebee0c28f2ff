"""What a bundle says of itself: the facts of its manifest, and `report.json` about how its export went."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from moedge.export.evaluation.judging import Judgement
from moedge.export.model.config import ModelConfig, attention_of
from moedge.export.options import HubCommit
from moedge.export.tokenizer.talking import Talking
from moedge.export.writing.account import Origin
from moedge.export.writing.journal import Planned
from moedge.quant.scheme import FP32, Scheme
from moedge.runtime.manifest import (
    REPORT_NAME,
    ROTARY_TABLES,
    ROUTED_EXPERTS,
    CodeKind,
    ExpertKernel,
    ExpertPlan,
    ModelFacts,
    TensorGroup,
)


@dataclass(frozen=True)
class TargetReport:
    """What a target has led to: by group and scheme the layers that have it, "0-2, 5", "" without layers."""

    asked: str
    predicted_kl: float | None  # of what was chosen, by the trial; None: nothing was measured
    plan: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class ExportReport:
    """How an export went."""

    hub: HubCommit | None  # None: the checkpoint was a folder
    scheme: str
    target: TargetReport | None
    rounding: str
    experts: ExpertPlan
    chat_template: str | None  # None: the checkpoint's own
    fidelity: Judgement | None  # None: it was not measured
    notes: tuple[str, ...]
    tensors: tuple[TensorGroup, ...]
    origins: tuple[Origin, ...]
    resumed_after: str | None  # the last finished stage of the run before; None: it was done in one
    seconds: float  # of the last run, if there were several
    peak_resident_bytes: int

    def with_notes(self, *more: str) -> "ExportReport":
        """The same with more to say."""
        return replace(self, notes=tuple(sorted({*self.notes, *more})))

    def write(self, folder: Path) -> Path:
        """Put report.json into a bundle's folder; where it is."""
        data = asdict(self)
        data["tensors"] = [{"group": group.pop("name"), **group} for group in data["tensors"]]
        path = folder / REPORT_NAME
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        return path


def tell_target(asked: str, planned: Planned) -> TargetReport:
    """The report of a target."""
    layers: dict[str, dict[str, list[int | None]]] = {}
    for group, layer, scheme in sorted(planned.places, key=lambda place: (place[0], place[1] or 0)):
        layers.setdefault(group, {}).setdefault(scheme, []).append(layer)
    plan = {
        group: {scheme: _list_layers(some) for scheme, some in sorted(schemes.items())}
        for group, schemes in layers.items()
    }
    return TargetReport(asked, planned.kl, plan)


def _list_layers(layers: Sequence[int | None]) -> str:
    """Layers in order as spans: 0-2, 5."""
    spans: list[list[int]] = []
    for layer in layers:
        if layer is None:
            continue
        if spans and spans[-1][-1] == layer - 1:
            spans[-1] = [spans[-1][0], layer]
        else:
            spans.append([layer])
    return ", ".join("-".join(map(str, span)) for span in spans)


def kernel_of(plan: ExpertPlan, schemes: Sequence[Scheme]) -> ExpertKernel:
    """The kernel of the first of these schemes of routed experts, which most layers have.

    Without any every layer is dense, so that no QMoE node has to be proved.
    """
    if not schemes:
        return ExpertKernel("native" if plan == "native" else "if", FP32.bits, FP32.block, FP32.zero_point)
    experts = schemes[0]
    codes: CodeKind = "integers"
    if experts.numbers == "floats":
        codes = "mxfp4" if experts.scales == "float8e8m0" else "nvfp4"
    bits = experts.bits if plan == "native" else experts.kernel_bits
    return ExpertKernel(plan, bits, experts.block, experts.zero_point, codes)


def facts_of(model: ModelConfig, groups: tuple[TensorGroup, ...], context: int, talking: Talking) -> ModelFacts:
    """What the manifest says of a model whose tensors were counted in these groups."""
    counted = [g for g in groups if g.name != ROTARY_TABLES]
    total = sum(g.parameters for g in counted)
    routed = sum(g.parameters for g in counted if g.name == ROUTED_EXPERTS)
    kinds = attention_of(model.mixers)
    idle = routed - routed * model.experts.num_experts_per_tok // model.experts.num_experts
    return ModelFacts(
        model_type=model.model_type,
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=max((kind.num_heads for kind in kinds), default=0),
        moe_layers=len(model.moe_layers),
        num_experts=model.experts.num_experts,
        num_experts_per_tok=model.experts.num_experts_per_tok,
        total_parameters=total,
        active_parameters=total - idle,
        context_length=context,
        eos_token_ids=talking.eos_token_ids,
        bos_token_id=talking.bos_token_id,
        chat_format=talking.chat_format,
        rotary_switch=min(filter(None, (kind.rope.switches(context) for kind in kinds if kind.rope)), default=0),
    )
