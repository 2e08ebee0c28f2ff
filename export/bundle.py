"""One export from beginning to end: checkpoint in, bundle out.

It decides what goes into a bundle and in which order, the manifest last; `writing/publish.py` makes it appear at once.
"""

import hashlib
import json
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.calibration.beside_export import BesideExport, calibrate_beside
from moedge.export.calibration.texts import CalibrationText
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.evaluation.judging import Judgement, judge
from moedge.export.genai_config import add_last_logits, genai_config, write_genai_files
from moedge.export.graph.builder import Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.fused import FusedLowering
from moedge.export.graph.probe import build_probe
from moedge.export.graph.saving import save_graph
from moedge.export.graph.standard import StandardLowering
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.options import ExportOptions, ExportProgress, HubCommit, refuse_target
from moedge.export.process_memory import keep_freed_memory, peak_resident_bytes
from moedge.export.rehearsal import Rehearsal, refuse_extra_biases, rehearse
from moedge.export.report import ExportReport, facts_of, kernel_of
from moedge.export.understanding import understand
from moedge.export.writing.journal import JOURNAL_NAME, Journal, Recipe
from moedge.export.writing.publish import publish
from moedge.export.writing.stages import Stages
from moedge.export.writing.weights_file import WeightsFile
from moedge.runtime.manifest import (
    MODEL_NAME,
    PROBE_NAME,
    REPORT_NAME,
    SCHEMA_VERSION,
    WEIGHTS_NAME,
    FileEntry,
    Manifest,
    write_manifest,
)

# Each is written to the disk as fp32 once, and multiplied with some thousand tokens: 100 B are 400 GB and hours.
MOST_PARAMETERS = 100_000_000_000
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
    plan = options.plan
    refuse_target(target, options)
    started = time.monotonic()
    keep_freed_memory()
    with Checkpoint(checkpoint, progress.on_read) as source:
        progress.on_total(source.nbytes())
        understood = understand(source, options)
        model, context, talking = understood.model, understood.context, understood.talking
        rehearsal = rehearse(source, model, context, options.scheme, options.scale_dtype)
        refuse_extra_biases(source, model, rehearsal.extra_biases)
        notes = [*talking.notes, *rehearsal.notes]
        options = replace(options, calibration=_choose_calibration(options, rehearsal, notes))
        model = with_stored_head(source, model, notes)
        recipe = _recipe(source, options, rehearsal.schemes.scales or "of each scheme's own type", context)
        judged = options.judge and _can_judge(options, rehearsal)
        with (
            publish(target, options.force) as folder,
            Journal(folder, recipe, options.resume, options.force) as journal,
            calibrate_beside(
                options.calibration, options.rounding, rehearsal.schemes, source, model, talking, folder
            ) as beside,
        ):
            if journal.marks:
                progress.on_stage("check")
            with WeightsFile(folder, journal) as weights:
                stages = Stages(journal, weights, source, model.num_hidden_layers, progress.on_stage)
                lower = FusedLowering if plan == "fused" else StandardLowering
                lowering = lower(Builder(weights), rehearsal.schemes, beside.rounding, notes)

                def begin(layer: int) -> None:
                    stages.begin(layer)
                    beside.prepare(layer)

                graph = build_decoder(lowering, source, model, context, begin, channels=beside.channels)
                if unread := rehearsal.consumed.difference(source.consumed()):
                    raise AssertionError(f"{min(unread)} and more were not read, though the dry run says so")
                stages.finish()
            beside.note(notes)
            progress.on_stage("graph")
            cache, groups = tuple(port.tensor for port in lowering.cache), weights.account.groups()
            genai = genai_config(model, cache, talking, context)
            if genai is not None:
                add_last_logits(graph, model.vocab_size)
                write_genai_files(folder, genai, source)
            save_graph(graph, folder / MODEL_NAME)
            talking.write(folder)
            kernels = [scheme for scheme, _ in lowering.expert_schemes.most_common()]
            if plan == "fused" and kernels:
                probed = [*dict.fromkeys(scheme.kernel_scheme for scheme in kernels)]
                save_graph(build_probe(probed, model.experts), folder / PROBE_NAME)
            progress.on_stage("hashes")
            files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != JOURNAL_NAME]
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                name=target.name,
                scheme=options.scheme.name,
                experts=kernel_of(plan, kernels),
                model=facts_of(model, groups, context, talking),
                cache=cache,
                tensors=groups,
                files={p.name: _entry(p, weights) for p in files},
                chat_template=talking.chosen_template,
                tools={name: version(name) for name in ("moedge", "onnx", "onnx_ir", "onnxruntime")},
            )
            seconds, peak = round(time.monotonic() - started, 1), peak_resident_bytes()
            progress.on_stage("fidelity")
            report = ExportReport(
                hub=hub,
                scheme=options.scheme.name,
                rounding=options.rounding_name,
                experts=plan,
                chat_template=talking.chosen_template,
                fidelity=_judge(folder, manifest, beside, notes) if judged else None,
                notes=tuple(sorted({*notes, *weights.account.notes()})),
                tensors=groups,
                origins=weights.account.origins(),
                resumed_after=journal.resumed_after,
                seconds=seconds,
                peak_resident_bytes=peak,
            ).write(folder)
            manifest = replace(manifest, files=manifest.files | {REPORT_NAME: _entry(report, weights)})
            write_manifest(manifest, folder)
    return manifest


def _can_judge(options: ExportOptions, rehearsal: Rehearsal) -> bool:
    """Whether the bundle is not exact, and whether to run the exact model costs little beside what is done anyhow."""
    return options.scheme.quantized and (
        options.calibration is not None or rehearsal.parameters <= MOST_JUDGED_PARAMETERS
    )


def _judge(folder: Path, manifest: Manifest, beside: BesideExport, notes: list[str]) -> Judgement | None:
    with beside.exact() as (stream, first):
        try:
            return judge(folder, manifest, stream, first)
        except MoedgeError as error:  # the bundle is whole, but not for this machine
            notes.append(f"how far its answers are from the checkpoint's was not measured: {error}")
            return None


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


def _entry(path: Path, weights: WeightsFile) -> FileEntry:
    if path.name == WEIGHTS_NAME:
        return FileEntry(path.stat().st_size, weights.sha256)
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
