"""One export from beginning to end: checkpoint in, bundle out.

It decides what goes into a bundle and in which order, the manifest last; `writing/publish.py` makes it appear at once.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.formats import ACTIVATION_SCALES, is_zero_bias, refuse_unreadable
from moedge.export.families import read_model_config
from moedge.export.genai_config import add_last_logits, genai_config, write_genai_files
from moedge.export.graph.builder import MICROSOFT, Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.fused import FusedLowering
from moedge.export.graph.probe import build_probe
from moedge.export.graph.standard import StandardLowering
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.memory import keep_freed_memory, peak_resident_bytes
from moedge.export.model.config import ModelConfig
from moedge.export.tokenizer.talking import Talking, read_talking
from moedge.export.writing.journal import JOURNAL_NAME, Journal, Recipe
from moedge.export.writing.origins import Origin
from moedge.export.writing.publish import publish
from moedge.export.writing.stages import Stages
from moedge.export.writing.weights_file import WeightsFile
from moedge.quant.scheme import FP32, Scheme
from moedge.runtime.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    PROBE_NAME,
    SCHEMA_VERSION,
    WEIGHTS_NAME,
    ExpertKernel,
    ExpertPlan,
    FileEntry,
    Manifest,
    ModelFacts,
    TensorGroup,
    write_manifest,
)

DEFAULT_CONTEXT = 4096
# ONNX Runtime reads IR versions up to its own onnx; 10 came with opset 21 and is what onnxruntime-genai reads too.
IR_VERSION = 10


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses: scheme, expert plan (None: the scheme's own), context length (None: a moderate one).

    `force` replaces a bundle, and throws an interrupted export away unless `resume` goes on with it.
    """

    scheme: Scheme
    experts: ExpertPlan | None = None
    context: int | None = None
    force: bool = False
    resume: bool = False

    @property
    def plan(self) -> ExpertPlan:
        """The expert plan; fp32 has only the exact one."""
        if self.experts is None:
            return "fused" if self.scheme.quantized else "if"
        if self.experts == "fused" and not self.scheme.quantized:
            raise MoedgeError("fused experts are quantized ones: use --experts if with --scheme fp32, or int8 or int4.")
        return self.experts


@dataclass(frozen=True)
class HubCommit:
    """Where a checkpoint was published: the repository, and the commit that was taken of it."""

    repo: str
    commit: str


@dataclass(frozen=True)
class Understood:
    """What config and small files say, once everything is known to be supported."""

    model: ModelConfig
    context: int
    talking: Talking


@dataclass(frozen=True)
class Progress:
    """What an export tells while it works."""

    on_total: Callable[[int], None] = lambda _: None  # bytes of the checkpoint
    on_read: Callable[[int], None] = lambda _: None  # bytes more that were read of it
    on_stage: Callable[[str], None] = lambda _: None  # what is being worked on


def export_bundle(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    progress: Progress | None = None,
    hub: HubCommit | None = None,
) -> Manifest:
    """Convert the checkpoint folder into a bundle at `target`; MoedgeError leaves `target` untouched.

    UnfinishedError if the disk failed or is full after a stage was finished: the same call with `resume` goes on there.
    """
    progress = progress or Progress()
    plan = options.plan
    refuse_target(target, options)
    started = time.monotonic()
    keep_freed_memory()
    with Checkpoint(checkpoint, progress.on_read) as source:
        progress.on_total(source.nbytes())
        understood = understand(source, options)
        model, context, talking = understood.model, understood.context, understood.talking
        notes: list[str] = []
        model = with_stored_head(source, model, notes)
        recipe = _recipe(source, options, context)
        with (
            publish(target, options.force) as folder,
            Journal(folder, recipe, options.resume, options.force) as journal,
        ):
            if journal.marks:
                progress.on_stage("check")
            with WeightsFile(folder, journal) as weights:
                stages = Stages(journal, weights, source, model.num_hidden_layers, progress.on_stage)
                builder = Builder(weights)
                lowering = (FusedLowering if plan == "fused" else StandardLowering)(builder, options.scheme, notes)
                graph = build_decoder(lowering, source, model, context, stages.begin)
                unread = source.unconsumed((*model.names.ignored, *ACTIVATION_SCALES))
                unread = [name for name in unread if 0 not in source.shape(name)]  # shared experts of width 0
                left = [name for name in unread if not is_zero_bias(source, name)]
                if left:
                    rest = f" and {len(left) - 1} more" if len(left) > 1 else ""
                    raise MoedgeError(
                        f"{left[0]}{rest} of {checkpoint} has no place in {model.model_type}: nothing was exported."
                    )
                stages.finish()
                groups, origins = weights.groups(), weights.origins
            progress.on_stage("graph")
            cache = tuple(port.tensor for port in lowering.cache)
            genai = genai_config(model, cache, talking, context)
            if genai is not None:
                add_last_logits(graph, model.vocab_size)
                write_genai_files(folder, genai, source)
            _save(graph, folder / MODEL_NAME)
            talking.write(folder)
            chosen = lowering.expert_scheme
            if plan == "fused" and chosen is not None:
                _save(build_probe(chosen, model.experts), folder / PROBE_NAME)
            remarks, after = [*notes, *origins.notes()], journal.resumed_after
            _write_report(folder, options, plan, hub, remarks, groups, origins.lines(), after, started)
            progress.on_stage("hashes")
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                name=target.name,
                scheme=options.scheme.name,
                experts=_kernel(plan, chosen),
                model=_facts(model, groups, context, talking),
                cache=cache,
                tensors=groups,
                files={p.name: _entry(p, weights) for p in sorted(folder.iterdir()) if p.name != JOURNAL_NAME},
                tools={name: version(name) for name in ("moedge", "onnx", "onnx_ir", "onnxruntime")},
            )
            write_manifest(manifest, folder)
    return manifest


def _recipe(source: Checkpoint, options: ExportOptions, context: int) -> Recipe:
    return Recipe(
        moedge=version("moedge"),
        numpy=version("numpy"),
        scheme=options.scheme.name,
        experts=options.plan,
        context=context,
        config=hashlib.sha256(json.dumps(source.config, sort_keys=True).encode()).hexdigest(),
        shards=source.identity(),
    )


def refuse_target(target: Path, options: ExportOptions) -> None:
    """Raise MoedgeError if something stands at `target` that may not be replaced."""
    if target.exists() and not options.force:
        raise MoedgeError(f"{target} exists: choose another name, or replace it with --force.")
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise MoedgeError(f"{target} is no bundle, and --force replaces nothing else: choose another name.")


def understand(source: Checkpoint, options: ExportOptions) -> Understood:
    """Read all but the weights; MoedgeError for a family, a number format or a tokenizer that is not supported."""
    config = Config(source.config, str(source.folder / "config.json"))
    model = read_model_config(config)
    source.rename(model.names.renamed)
    refuse_unreadable(source, config, model.names.ignored)
    talking = read_talking(source)
    if outside := [i for i in talking.eos_token_ids if not 0 <= i < model.vocab_size]:
        raise MoedgeError(
            f"{source.folder} ends its answers with token {outside[0]}, but has {model.vocab_size} tokens: correct its "
            "eos_token_id."
        )
    return Understood(model, _context(options, model), talking)


def _context(options: ExportOptions, model: ModelConfig) -> int:
    longest = model.max_position_embeddings
    if options.context is not None and not 1 <= options.context <= longest:
        raise MoedgeError(
            f"--context {options.context} is not within 1 to {longest}, the positions this model was made for."
        )
    return options.context or min(DEFAULT_CONTEXT, longest)


def _save(graph: ir.Graph, path: Path) -> None:
    domains = {node.domain for node in graph.all_nodes()}
    graph.opset_imports.update({"": 21, **({MICROSOFT: 1} if MICROSOFT in domains else {})})
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="moedge", producer_version=version("moedge"))
    RemoveUnusedNodesPass()(model)
    ir.save(model, path)


def _entry(path: Path, weights: WeightsFile) -> FileEntry:
    if path.name == WEIGHTS_NAME:
        return FileEntry(path.stat().st_size, weights.sha256)
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _kernel(plan: ExpertPlan, experts: Scheme | None) -> ExpertKernel:
    if experts is None:  # every layer is dense: no QMoE node whose kernel could be proved
        return ExpertKernel("if", FP32.bits, FP32.block, FP32.zero_point)
    return ExpertKernel(plan, experts.bits, experts.block, experts.zero_point)


def _facts(model: ModelConfig, groups: tuple[TensorGroup, ...], context: int, talking: Talking) -> ModelFacts:
    counted = [g for g in groups if g.name != "rotary tables"]
    total = sum(g.parameters for g in counted)
    routed = sum(g.parameters for g in counted if g.name == "routed experts")
    idle = routed - routed * model.experts.num_experts_per_tok // model.experts.num_experts
    return ModelFacts(
        model_type=model.model_type,
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        num_hidden_layers=model.num_hidden_layers,
        moe_layers=len(model.moe_layers),
        num_experts=model.experts.num_experts,
        num_experts_per_tok=model.experts.num_experts_per_tok,
        total_parameters=total,
        active_parameters=total - idle,
        context_length=context,
        eos_token_ids=talking.eos_token_ids,
        bos_token_id=talking.bos_token_id,
        chat_format=talking.chat_format,
    )


def _write_report(
    folder: Path,
    options: ExportOptions,
    plan: str,
    hub: HubCommit | None,
    notes: list[str],
    groups: tuple[TensorGroup, ...],
    origins: tuple[Origin, ...],
    resumed_after: str | None,
    started: float,
) -> None:
    """report.json: how this export went. Seconds, of the last run if there were several, and bytes.

    `hub` is null for a checkpoint in a folder, `resumed_after` for an export in one run.
    """
    report = {
        "hub": asdict(hub) if hub else None,
        "scheme": options.scheme.name,
        "experts": plan,
        "notes": sorted(set(notes)),
        "tensors": [
            {"group": g.name, "scheme": g.scheme, "parameters": g.parameters, "bytes": g.bytes} for g in groups
        ],
        "origins": [asdict(origin) for origin in origins],
        "resumed_after": resumed_after,
        "seconds": round(time.monotonic() - started, 1),
        "peak_resident_bytes": peak_resident_bytes(),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
