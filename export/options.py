"""What an export is asked for, and whom it tells how far it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile
from moedge.export.calibration.texts import CalibrationText
from moedge.export.targets import Target
from moedge.export.writing.journal import refuse_kept
from moedge.export.writing.publish import partial_folder, refuse_impossible
from moedge.quant.plan import SchemePlan
from moedge.quant.rounding import Rounding
from moedge.quant.search import SEARCHED
from moedge.runtime.kernels.library import find_library, open_library
from moedge.runtime.manifest import MANIFEST_NAME, ROUTED_EXPERTS, ExpertPlan

WITHOUT_KERNELS = (
    "experts are fused and not native, since moedge's kernel library is missing: answers take about twice as long; "
    "install a C++ compiler and moedge again, or take a wheel of moedge for this machine, and export once more"
)


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses: schemes, expert plan (None: the experts' own), context length (None: a moderate one).

    `decided` says what the experts' own plan is on this machine, once for a whole export; it adds `plan_notes`.
    `chat_template` is the name of one that moedge brings, or a file (None: the checkpoint's own).
    With `calibration`, matrices are rounded by what they read of that text, and `rounding` is not asked; an optional
    one is left out, with a note, where the model is so large that it would take hours.
    `scale_dtype` is what scales are kept in; None: each scheme's own, or float32 where that would take too much memory.
    With a `target`, what `scheme` leaves open is measured, and `scheme` is the one with the fewest bytes.
    `judge`: the finished bundle is compared with the checkpoint, unless that would take long, for its report.
    `device` is where the bundle is to answer: one that does not fit is refused, and what is not chosen is as it says.
    `force` replaces a bundle, and throws an interrupted export away unless `resume` goes on with it.
    """

    scheme: SchemePlan
    experts: ExpertPlan | None = None
    context: int | None = None
    force: bool = False
    resume: bool = False
    rounding: Rounding = SEARCHED
    chat_template: str | None = None
    calibration: CalibrationText | None = None
    calibration_optional: bool = False
    scale_dtype: Literal["float8", "float16", "float32"] | None = None
    target: Target | None = None
    judge: bool = False
    device: Profile | None = None
    plan_notes: tuple[str, ...] | None = None  # what a user should hear of the plan; None: it is not decided yet

    @property
    def rounding_name(self) -> str:
        """What reports and resumed exports call how weights are rounded."""
        return self.rounding.name if self.calibration is None else self.calibration.rounding

    @property
    def plan(self) -> ExpertPlan:
        """The expert plan, which `decided` has decided."""
        if self.experts is None or self.plan_notes is None:
            raise AssertionError("the expert plan is not decided")
        return self.experts

    def decided(self) -> "ExportOptions":
        """These with an expert plan: unless it was chosen, moedge's kernels where they are here, of fp32 the exact one.

        Asked again it changes nothing, whatever has become of the library. MoedgeError if the plan does not fit the
        schemes, or if nobody chose one and the library that is here cannot be used.
        """
        if self.plan_notes is not None:
            return self
        quantized = self.scheme.of(ROUTED_EXPERTS).quantized
        plan, notes = self.experts, list[str]()
        if plan is None:
            plan = _default_plan() if quantized else "if"
            notes += [WITHOUT_KERNELS] if plan == "fused" else []
        elif plan != "if" and not quantized:
            raise MoedgeError(
                f"{plan} experts are quantized ones: use --experts if with --scheme fp32, or int8 or int4."
            )
        elif plan == "native":
            notes += _find_obstacle()
        return replace(self, experts=plan, plan_notes=tuple(notes))


def _default_plan() -> ExpertPlan:
    """What quantized experts are made for here; MoedgeError if a library is here that cannot be used."""
    path = find_library()
    if path is None:
        return "fused"
    open_library(path)
    return "native"


def _find_obstacle() -> Iterator[str]:
    """A sentence if this machine could not run native experts."""
    try:
        open_library()
    except MoedgeError as error:
        yield f"this machine cannot run the bundle, which is for another: {error}"


@dataclass(frozen=True)
class HubCommit:
    """Where a checkpoint was published: the repository, and the commit that was taken of it."""

    repo: str
    commit: str


@dataclass(frozen=True)
class ExportProgress:
    """What an export tells while it works."""

    on_total: Callable[[int], None] = lambda _: None  # bytes of the checkpoint
    on_read: Callable[[int], None] = lambda _: None  # bytes more that were read of it
    on_stage: Callable[[str], None] = lambda _: None  # what is being worked on


def refuse_target(target: Path, options: ExportOptions) -> None:
    """Raise MoedgeError if a bundle cannot be made at `target`, or if something stands there that may not go."""
    refuse_impossible(target)
    if target.exists() and not options.force:
        raise MoedgeError(f"{target} exists: choose another name, or replace it with --force.")
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise MoedgeError(f"{target} is no bundle, and --force replaces nothing else: choose another name.")
    if not (options.force or options.resume):
        refuse_kept(partial_folder(target))
