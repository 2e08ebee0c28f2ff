"""One export from beginning to end: checkpoint in, bundle out.

It decides what goes into a bundle and in which order, the manifest last; `writing/publish.py` makes it appear at once.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from moedge.export.bundle_maker import BundleMaker, finish
from moedge.export.calibration.beside_export import MOST_PARAMETERS
from moedge.export.calibration.texts import CalibrationText
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.families import note_left_out
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.options import ExportOptions, ExportProgress, HubCommit, refuse_target
from moedge.export.planning.fitting import refuse_unfit
from moedge.export.process_memory import keep_freed_memory
from moedge.export.rehearsal import Rehearsal, refuse_extra_biases, rehearse
from moedge.export.report import ExportReport
from moedge.export.sensitivity.planning import Planner
from moedge.export.sensitivity.rounds import Round, best_round, next_aim, tell_rounds
from moedge.export.targets import TargetKl
from moedge.export.understanding import understand
from moedge.export.writing.journal import JOURNAL_NAME, Planned, Recipe, clear, kept_plan
from moedge.export.writing.publish import publish
from moedge.runtime.manifest import Manifest

# Without a calibration the exact model runs for this alone, as long as it takes to read and to write it once more.
MOST_JUDGED_PARAMETERS = 1_000_000_000


def export_bundle(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    progress: ExportProgress | None = None,
    hub: HubCommit | None = None,
) -> Manifest:
    """Convert the checkpoint folder into a bundle at `target`; MoedgeError leaves `target` untouched.

    UnfinishedError if the disk failed or is full after a stage was finished: the same call with `resume` goes on there.
    """
    progress = progress or ExportProgress()
    options = options.decided()
    refuse_target(target, options)
    started = time.monotonic()
    keep_freed_memory()
    with Checkpoint(checkpoint, progress.on_read) as source:
        progress.on_total(source.nbytes())
        understood = understand(source, options)
        model, context, talking = understood.model, understood.context, understood.talking
        rehearsal = rehearse(source, model, context, options.scheme, options.plan, options.scale_dtype)
        if options.device is not None and options.target is None:
            refuse_unfit(target.name, source, model, context, rehearsal.schemes, options.plan, options.device)
        refuse_extra_biases(source, model, rehearsal.extra_biases)
        notes = [*talking.notes, *(options.plan_notes or ()), *rehearsal.notes, *note_left_out(model.model_type)]
        options = replace(options, calibration=_choose_calibration(options, rehearsal, notes))
        model = with_stored_head(source, model, notes)
        recipe = _recipe(source, options, rehearsal.schemes.scales or "of each scheme's own type", context)
        maker = BundleMaker(
            target.name,
            replace(understood, model=model),
            options,
            hub,
            progress,
            started,
            options.judge and _can_judge(options, rehearsal),
        )
        with publish(target, options.force) as folder:
            if options.target is None:
                manifest, report = maker.make(source, folder, recipe, rehearsal, notes)
            else:
                manifest, report = _reach(maker, source, folder, recipe, rehearsal, notes)
            manifest = finish(folder, manifest, report)
    return manifest


def _reach(
    maker: BundleMaker, source: Checkpoint, folder: Path, recipe: Recipe, least: Rehearsal, notes: Sequence[str]
) -> tuple[Manifest, ExportReport]:
    """The bundle for a target; for a KL others before it, where what was measured of them asks for that."""
    options, on_stage, known = maker.options, maker.progress.on_stage, maker.understood
    planner = Planner(source, known.model, known.context, known.talking, options, least)
    told, read = list[str](), source.consumed()  # what is read before any layer
    planned = kept_plan(folder, recipe) if options.resume else None
    if planned is None:
        clear(folder)
        planned = planner.choose(folder, told, on_stage)
    rounds, tried, last = list[Round](), list[Planned](), False
    while True:
        rehearsal = planner.rehearse(planned)
        some = replace(maker, options=replace(options, calibration=options.calibration if rehearsal.rounded else None))
        manifest, report = some.make(source, folder, replace(recipe, planned=planned), rehearsal, [*notes, *told])
        if last or not isinstance(options.target, TargetKl) or planned.kl is None:
            return manifest, report
        if report.fidelity is None:
            return manifest, report.with_notes(f"{options.target.name}: what came of it was not measured")
        rounds.append(Round(planned.kl, report.fidelity.kl_mean))
        tried.append(planned)
        aim = next_aim(options.target.kl, rounds)
        following = planned if aim is None else planner.choose(folder, told, on_stage, aim)
        if following.places in [each.places for each in tried]:
            told, last = tell_rounds(options.target.kl, rounds), True
            following = tried[best_round(options.target.kl, rounds)]
            if following.places == planned.places:
                return manifest, report.with_notes(*told)
        planned = following
        (folder / JOURNAL_NAME).unlink()
        source = source.aside()
        source.consume(read)


def _can_judge(options: ExportOptions, rehearsal: Rehearsal) -> bool:
    """Whether the bundle is not exact, and whether to run the exact model costs little beside what is done anyhow."""
    return options.scheme.quantized and (
        options.calibration is not None or options.target is not None or rehearsal.parameters <= MOST_JUDGED_PARAMETERS
    )


def _choose_calibration(options: ExportOptions, rehearsal: Rehearsal, notes: list[str]) -> CalibrationText | None:
    """The text to calibrate by; None if nothing would be rounded by it, or if it would take too long for a default."""
    if options.calibration is None or not rehearsal.rounded:
        return None
    if options.calibration_optional and rehearsal.parameters > MOST_PARAMETERS:
        notes.append(
            f"calibration: left out, since running {rehearsal.parameters / 1e9:.0f} B parameters in fp32 takes hours: "
            "--calibration mix does it all the same"
        )
        return None
    return options.calibration


def _recipe(source: Checkpoint, options: ExportOptions, scales: str, context: int) -> Recipe:
    return Recipe(
        moedge=version("moedge"),
        numpy=version("numpy"),
        scheme=options.scheme.name,
        rounding=options.rounding_name,
        scales=scales,
        experts=options.plan,
        context=context,
        config=hashlib.sha256(json.dumps(source.config, sort_keys=True).encode()).hexdigest(),
        shards=source.identity(),
    )
