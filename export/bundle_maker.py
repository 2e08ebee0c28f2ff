"""Everything of one bundle but its place: weights, graphs, small files and manifest, written into a folder.

What it is made with is decided before (bundle.py), and how it appears at its place is writing/publish.py's.
"""

import hashlib
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.calibration.beside_export import BesideExport, calibrate_beside
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.evaluation.judging import Judgement, judge
from moedge.export.genai_config import add_last_logits, genai_config, write_genai_files
from moedge.export.graph.builder import Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.plans import LOWERINGS
from moedge.export.graph.probe import build_probe
from moedge.export.graph.qmoe import set_accuracy
from moedge.export.graph.saving import save_graph
from moedge.export.options import ExportOptions, ExportProgress, HubCommit
from moedge.export.process_memory import peak_resident_bytes
from moedge.export.rehearsal import Rehearsal
from moedge.export.report import ExportReport, facts_of, kernel_of, tell_target
from moedge.export.understanding import Understood
from moedge.export.writing.journal import JOURNAL_NAME, Journal, Recipe
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


@dataclass(frozen=True)
class BundleMaker:
    """Makes bundles of one checkpoint called `name`; `judged`: each is compared with the exact model."""

    name: str
    understood: Understood  # its model after `with_stored_head`
    options: ExportOptions
    hub: HubCommit | None
    progress: ExportProgress
    started: float  # by time.monotonic
    judged: bool

    def make(
        self, source: Checkpoint, folder: Path, recipe: Recipe, rehearsal: Rehearsal, notes: list[str]
    ) -> tuple[Manifest, ExportReport]:
        """All files but report.json and the manifest, which are for `finish`; what a user should hear is added."""
        options, progress, plan = self.options, self.progress, self.options.plan
        model, context, talking = self.understood.model, self.understood.context, self.understood.talking
        with (
            Journal(folder, recipe, options.resume, options.force) as journal,
            calibrate_beside(
                options.calibration, options.rounding, rehearsal.schemes, source, model, talking, folder, self.judged
            ) as beside,
        ):
            if journal.marks:
                progress.on_stage("check")
            with WeightsFile(folder, journal) as weights:
                stages = Stages(journal, weights, source, model.num_hidden_layers, progress.on_stage)
                lowering = LOWERINGS[plan](Builder(weights), rehearsal.schemes, beside.rounding, notes)

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
            if genai is not None and plan != "native":  # no other runtime has moedge's operators
                add_last_logits(graph, model.vocab_size)
                write_genai_files(folder, genai, source)
            if options.device is not None:
                set_accuracy(graph, options.device.accuracy_level)
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
                name=self.name,
                scheme=options.scheme.name,
                experts=kernel_of(plan, kernels),
                model=facts_of(model, groups, context, talking),
                cache=cache,
                tensors=groups,
                files={p.name: _entry(p, weights.sha256 if p.name == WEIGHTS_NAME else None) for p in files},
                chat_template=talking.chosen_template,
                tools={name: version(name) for name in ("moedge", "onnx", "onnx_ir", "onnxruntime")},
            )
            progress.on_stage("fidelity")
            fidelity = _judge(folder, manifest, beside, notes) if self.judged else None
            report = ExportReport(
                hub=self.hub,
                scheme=options.scheme.name,
                target=None if recipe.planned is None else tell_target(options.scheme.name, recipe.planned),
                rounding=options.rounding_name,
                experts=plan,
                chat_template=talking.chosen_template,
                fidelity=fidelity,
                notes=tuple(sorted({*notes, *weights.account.notes()})),
                tensors=groups,
                origins=weights.account.origins(),
                resumed_after=journal.resumed_after,
                seconds=round(time.monotonic() - self.started, 1),
                peak_resident_bytes=peak_resident_bytes(),
            )
        return manifest, report


def finish(folder: Path, manifest: Manifest, report: ExportReport) -> Manifest:
    """Write the report and, last of all, the manifest, which is returned as it is written."""
    entry = _entry(report.write(folder))
    manifest = replace(manifest, files=manifest.files | {REPORT_NAME: entry})
    write_manifest(manifest, folder)
    return manifest


def _judge(folder: Path, manifest: Manifest, beside: BesideExport, notes: list[str]) -> Judgement | None:
    try:
        with beside.exact() as (stream, first):
            return judge(folder, manifest, stream, first)
    except (MoedgeError, OSError) as error:  # the bundle is whole, but this machine cannot run it or the exact model
        notes.append(f"how far its answers are from the checkpoint's was not measured: {error}")
        return None


def _entry(path: Path, sha256: str | None = None) -> FileEntry:
    if sha256 is not None:
        return FileEntry(path.stat().st_size, sha256)
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
