"""The plan for a target: which scheme each group of each layer gets, so that weights.bin is that small or KL that low.

Sizes are those of a rehearsal, sensitivities those of a trial (sensitivity.py), the choice is quant/budget.py's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.calibration.beside_export import MOST_PARAMETERS, calibrate_beside
from moedge.export.calibration.texts import built_in_mix
from moedge.export.calibration.windows import TRIAL_WINDOW, TRIAL_WINDOWS, cut_windows
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.model.config import ModelConfig
from moedge.export.options import ExportOptions
from moedge.export.rehearsal import MOST_JOINING_BYTES, Rehearsal, walk, weigh
from moedge.export.sensitivity.sensitivity import Part, Sensitivity, try_parts
from moedge.export.streaming.stage import StageMaker
from moedge.export.targets import TargetKl, TargetSize, ladder_of
from moedge.export.tokenizer.talking import Talking
from moedge.export.writing.journal import Planned
from moedge.quant.budget import Rung, reach_error, spend_bytes
from moedge.quant.plan import Place, SchemePlan
from moedge.quant.scheme import Scheme, parse_scheme
from moedge.runtime.manifest import LM_HEAD

_JOINING = 7  # bytes a weight, while codes of 5 and 6 bits are put together


@dataclass(frozen=True)
class Planner:
    """Plans for one checkpoint; `rehearsal` is that of the plan with the fewest bytes."""

    source: Checkpoint
    model: ModelConfig  # after `with_stored_head`
    context: int
    talking: Talking
    options: ExportOptions
    rehearsal: Rehearsal
    found: dict[Place, Sensitivity] = field(default_factory=dict)  # filled by the first choice

    def refuse_impossible(self) -> None:
        """Raise MoedgeError if the target cannot be reached with any bytes, or only by running the model for hours."""
        options, parameters = self.options, self.rehearsal.parameters
        if parameters > MOST_PARAMETERS and (options.calibration is None or options.calibration_optional):
            raise MoedgeError(
                f"a target is measured by running {parameters / 1e9:.0f} B parameters in fp32, which takes hours: "
                "name a --scheme, or say --calibration mix to do it all the same."
            )
        nbytes = options.target.nbytes if isinstance(options.target, TargetSize) else None
        if nbytes is not None and nbytes < (least := self._weigh([0] * len(self.parts))):
            raise MoedgeError(
                f"--target-size {nbytes} is too small for this model, whose weights take {least} bytes "
                f"({least / 1e6:.1f} MB) at the least: ask for that, or fix a group to fewer bits with --group."
            )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What there is to choose: not what a user has fixed, nor what was published as codes that are kept."""
        base, rounded = self.rehearsal.schemes, self.rehearsal.rounded
        places = [place for place in rounded if place[0] not in base.asked]
        if self.model.tie_word_embeddings:
            places = [place for place in places if place[0] != LM_HEAD]
        joins = self.options.plan != "native"
        whole = joins and _JOINING * sum(rounded[place] for place in places) > MOST_JOINING_BYTES
        ladders = {place: ladder_of(place[0], whole) for place in places}
        costs = []
        for rung in range(max(map(len, ladders.values()), default=0)):
            by_place = {place: ladder[min(rung, len(ladder) - 1)] for place, ladder in ladders.items()}
            costs.append(self._walk(by_place).costs)
        return tuple(_part(place, ladder, costs, base) for place, ladder in ladders.items())

    @property
    def most_bytes(self) -> int:
        """Of weights.bin, that the target may lead to."""
        most = self._weigh([len(part.rungs) - 1 for part in self.parts])
        return min(most, self.options.target.nbytes) if isinstance(self.options.target, TargetSize) else most

    def _plan(self, rungs: Sequence[int]) -> SchemePlan:
        """The schemes with the parts at those rungs."""
        by_place = {part.place: part.rungs[rung] for part, rung in zip(self.parts, rungs, strict=True)}
        return replace(self.rehearsal.schemes, by_place=by_place)

    def _fill(self, nbytes: int, ladders: Sequence[Sequence[Rung]]) -> list[int]:
        """The rungs with the least error for which weights.bin has at most that many bytes."""
        cheapest = sum(ladder[0].nbytes for ladder in ladders)
        left = nbytes - self._weigh([0] * len(ladders))  # beside the parts there are norms, and gaps between regions
        while True:
            rungs = spend_bytes(ladders, cheapest + left)
            excess = self._weigh(rungs) - nbytes
            if excess <= 0:
                return rungs
            left = max(left - excess, 0)

    def _try_parts(self, folder: Path, on_stage: Callable[[str], None]) -> dict[Place, Sensitivity]:
        """Measure every part, with temporary files in `folder`."""
        text = self.options.calibration or built_in_mix()
        tokenizer, talking, model = Tokenizer.from_str(self.talking.tokenizer), self.talking, self.model
        texts = text.render(talking.chat_template)
        windows = cut_windows(
            tokenizer, texts, model.vocab_size, talking.bos_token_id, TRIAL_WINDOWS, TRIAL_WINDOW, between=True
        )
        schemes, options = self._plan([0] * len(self.parts)), self.options
        with (
            TemporaryDirectory(prefix="moedge-", dir=folder) as scratch,
            calibrate_beside(
                options.calibration, options.rounding, schemes, self.source, model, talking, Path(scratch)
            ) as beside,
        ):
            maker = StageMaker(self.source.aside(), model, windows.shape[1], Path(scratch))
            return try_parts(maker, windows, self.parts, beside, lambda layer: on_stage(_stage(layer, model)))

    def choose(
        self, folder: Path, notes: list[str], on_stage: Callable[[str], None], aim: float | None = None
    ) -> Planned:
        """The plan for the target, measured with temporary files in `folder`; notes what a user should hear of it.

        `aim`: the KL to plan for in the place of the target's. What was measured once is not measured again.
        """
        self.refuse_impossible()
        target = self.options.target
        if isinstance(target, TargetSize) and target.nbytes > (most := self.most_bytes):
            notes.append(f"--target-size {target.nbytes}: every group has the most bits there are, in {most} bytes")
            return self._planned([len(part.rungs) - 1 for part in self.parts], None)
        if not self.found:
            on_stage("sensitivity")
            self.found.update(self._try_parts(folder, on_stage))
        ladders = [_rungs(part, self.found[part.place]) for part in self.parts]
        match target:
            case TargetSize(nbytes):
                rungs = self._fill(nbytes, ladders)
            case TargetKl(kl):
                rungs = reach_error(ladders, kl if aim is None else aim)
            case None:
                raise AssertionError("there is no target to plan for")
        predicted = sum(ladder[rung].error for ladder, rung in zip(ladders, rungs, strict=True))
        return self._planned(rungs, predicted)

    def rehearse(self, planned: Planned) -> Rehearsal:
        """The rehearsal of what was planned, its schemes in the place of those with the fewest bytes."""
        schemes = {(group, layer): parse_scheme(name) for group, layer, name in planned.places}
        return self._walk(schemes)

    def _walk(self, by_place: Mapping[Place, Scheme]) -> Rehearsal:
        schemes = replace(self.rehearsal.schemes, by_place=by_place)
        return walk(self.source, self.model, self.context, schemes, self.options.plan)

    def _planned(self, rungs: Sequence[int], kl: float | None) -> Planned:
        schemes = [(*part.place, part.rungs[rung].name) for part, rung in zip(self.parts, rungs, strict=True)]
        return Planned(tuple(schemes), kl)

    def _weigh(self, rungs: Sequence[int]) -> int:
        return weigh(self.source, self.model, self.context, self._plan(rungs), self.options.plan)


def _part(place: Place, ladder: Sequence[Scheme], costs: Sequence[Mapping[Place, int]], base: SchemePlan) -> Part:
    """The rungs of a place by their bytes there, where a block may have been halved."""
    scaled = [scheme.with_scales(base.scales or scheme.own_scales) for scheme in ladder]
    rungs = dict(sorted(zip((cost[place] for cost in costs), scaled, strict=False), key=lambda rung: rung[0]))
    return Part(place, tuple(rungs.values()), tuple(rungs))


def _rungs(part: Part, trial: Sensitivity) -> list[Rung]:
    return [Rung(nbytes, trial.kl_at(rung)) for rung, nbytes in enumerate(part.nbytes)]


def _stage(layer: int, model: ModelConfig) -> str:
    return f"sensitivity, {'head' if layer == model.num_hidden_layers else f'layer {layer}'}"
