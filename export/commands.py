"""The verb `moedge export`: options in, a progress bar while it works, a summary at the end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile, load_profile
from moedge.export.calibration.texts import CalibrationText
from moedge.export.options import ExportOptions, ExportProgress, HubCommit
from moedge.export.schemes import DEFAULT, QUANTIZABLE, SCHEME_CHOICES, parse_plan, spell
from moedge.export.targets import parse_target, plan_cheapest
from moedge.export.tokenizer.brought import brought_templates
from moedge.quant.scheme import EXPERT_SCHEMES
from moedge.runtime.manifest import REPORT_NAME, ExpertPlan, Manifest


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Folder of a checkpoint (config.json, safetensors, tokenizer.json), or hf://org/name[@revision].",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the bundle to make.")],
    device: Annotated[
        str | None,
        typer.Option(
            help="The device that the bundle is for, by its profile's name or path: its choices are the defaults, and "
            "what does not fit into its memory is refused."
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(help=f"How weights are stored: {', '.join(SCHEME_CHOICES)}. [default: {DEFAULT}]"),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="In the place of --scheme: the best weights.bin of at most that size, like 900MB, 1.5GB or 800MiB. "
            "How each group of each layer bears fewer bits is measured for it.",
        ),
    ] = None,
    target_kl: Annotated[
        float | None,
        typer.Option(
            metavar="KL",
            help="The same for answers: the smallest that is at most that far from fp32, like 0.05.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=SCHEME",
            help="Another scheme for a group of tensors; repeatable. With int4, embedding and lm_head have int8. "
            f"Routed experts can have {' and '.join(EXPERT_SCHEMES)} too. "
            f"Groups: {', '.join(map(spell, QUANTIZABLE))}.",
        ),
    ] = None,
    scale_dtype: Annotated[
        Literal["float8", "float16", "float32"] | None,
        typer.Option(
            help="How scales are stored; they are fp32 in memory. "
            "[default: float8, float16 for int8, float32 if casting would take over 1 GiB of memory]"
        ),
    ] = None,
    experts: Annotated[
        Literal["native", "fused", "if"] | None,
        typer.Option(
            help="native: moedge's own kernels; fused: ONNX Runtime's, about half as fast; if: standard ONNX. "
            "[default: native, for fp32: if; fused where moedge's kernel library is missing]"
        ),
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Longest sequence to serve, in tokens. [default: 4096 or less]")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help=f"Another chat template: a file, or one of moedge's: {', '.join(brought_templates())}.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="mix|none|FILE",
            help="What weights are rounded by: moedge's mix of texts, a text file, or nothing. "
            "[default: mix, up to 100 B parameters]",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the bundle if it exists, and an interrupted export.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted export of the same, if there is one.")
    ] = False,
    no_eval: Annotated[
        bool,
        typer.Option(
            "--no-eval",
            help="Do not compare the bundle with the checkpoint in the end. [default: compare, if it was calibrated, "
            "has a target or has up to 1 B parameters]",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert a checkpoint into a quantized ONNX bundle."""
    from moedge.export.bundle import export_bundle
    from moedge.export.writing.journal import describe_kept
    from moedge.export.writing.publish import partial_folder

    target = parse_target(target_size, target_kl)
    if target is not None and scheme is not None:
        raise MoedgeError("--scheme says what --target-size and --target-kl would measure: leave one out.")
    profile = None if device is None else load_profile(device)
    changes = group or ()
    chosen = scheme or (profile.scheme if profile else DEFAULT)
    schemes = parse_plan(chosen, changes) if target is None else plan_cheapest(target, changes)
    texts = _calibration(calibration or "mix") if schemes.quantized else None
    options = ExportOptions(
        schemes,
        experts or _plan_for(profile, schemes.quantized),
        context,
        force,
        resume,
        chat_template=chat_template,
        calibration=texts,
        calibration_optional=calibration is None,
        scale_dtype=scale_dtype,
        target=target,
        judge=not no_eval,
        device=profile,
    ).decided()
    folder, hub = _folder(checkpoint, output, options)
    try:
        with _bar() as progress:
            manifest = export_bundle(folder, output, options, progress, hub)
    except KeyboardInterrupt:
        if said := describe_kept(partial_folder(output)):
            print(f"moedge: {said}.", file=sys.stderr)
        raise
    _say(output, manifest, as_json)


def families(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    """List the model families that can be exported."""
    from dataclasses import asdict

    from moedge.export.families import known_families

    known = known_families()
    if as_json:
        print(json.dumps([asdict(family) for family in known], indent=1))
        return
    rows = [("model type", "attention", "left out", "models")]
    rows += [(f.model_type, f.attention, f.left_out or "-", f.models) for f in known]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
    schemes = f"{', '.join(SCHEME_CHOICES)}; for routed experts {' and '.join(EXPERT_SCHEMES)}"
    print(f"\nPlans: native, fused, if. Schemes: {schemes}. Number formats of checkpoints: docs/formats.md.")


def _plan_for(profile: Profile | None, quantized: bool) -> ExpertPlan | None:
    """The device's own choice; None leaves it to this machine."""
    return profile.expert_plan if profile and quantized else None


def _calibration(name: str) -> CalibrationText | None:
    from moedge.export.calibration.texts import built_in_mix, read_text

    if name == "none":
        return None
    return built_in_mix() if name == "mix" else read_text(Path(name))


def _folder(checkpoint: str, output: Path, options: ExportOptions) -> tuple[Path, HubCommit | None]:
    """The checkpoint as a folder, fetched from the hub if that is meant."""
    from moedge.export.hub.name import parse_name

    name = parse_name(checkpoint)
    if name is None:
        return Path(checkpoint), None
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from moedge.export.hub.fetch import fetch

    if not sys.stderr.isatty():  # one of the library's bars asks for it by itself, the other does not
        disable_progress_bars()
    return fetch(name, output, options, lambda note: print(f"note: {note}", file=sys.stderr))


@contextmanager
def _bar() -> Iterator[ExportProgress]:
    """A bar of the checkpoint's bytes on a terminal's stderr, silent elsewhere."""
    if not sys.stderr.isatty():
        yield ExportProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description:<10}"), *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield ExportProgress(
            on_total=lambda total: bar.update(task, total=total),
            on_read=lambda done: bar.advance(task, done),
            on_stage=lambda stage: bar.update(task, description=stage),
        )


def _say(output: Path, manifest: Manifest, as_json: bool) -> None:
    size = sum(entry.size for entry in manifest.files.values())
    report = json.loads((output / REPORT_NAME).read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"bundle": str(output), "bytes": size, **report}, indent=1))
        return
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    model = manifest.model
    print(
        f"{output}: {model.model_type}, {model.total_parameters / 1e6:.1f} M parameters "
        f"({model.active_parameters / 1e6:.1f} M active), {manifest.scheme}, experts {manifest.experts.plan}, "
        f"{size / 1e6:.1f} MB, {report['seconds']} s"
    )
    if judged := report["fidelity"]:
        print(
            f"answers at {judged['positions']} positions of text that it was not calibrated on: KL "
            f"{judged['kl_mean']:.4f} from the checkpoint's, {judged['top1']:.1%} the same token, perplexity "
            f"{judged['perplexity']:.2f} instead of {judged['reference_perplexity']:.2f}; "
            f"{judged['bits_per_weight']:.2f} bits a weight"
        )
