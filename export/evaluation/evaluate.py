"""A bundle against the checkpoint that it was made of: both read the same windows of text, their answers are compared.

The bundle runs as it is served: the runtime's engine with this machine's kernels, activations as these round them. The
reference is streamed, so that it need not fit into memory; what is kept of either for all windows lies on the disk.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.evaluation.logits import compare_logits, weigh
from moedge.export.evaluation.tapped_bundle import tap_bundle
from moedge.export.evaluation.text_windows import read_windows
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.model.config import ModelConfig
from moedge.export.options import ExportOptions
from moedge.export.rehearsal import rehearse
from moedge.export.streaming.streamed_model import StreamedModel, Taps
from moedge.export.understanding import understand
from moedge.quant.blocks import F32
from moedge.quant.fidelity import SKIPPED, Fidelity, relative_error, share_experts, summarize
from moedge.quant.plan import EXACT
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import OnHashed, say_nothing
from moedge.runtime.manifest import TOKENIZER_NAME, Manifest, read_manifest
from moedge.runtime.text import Tokenizer


@dataclass(frozen=True)
class EvalOptions:
    """What a user chooses: how many tokens of the text, in windows of how many, and which of the engine's refusals."""

    tokens: int
    window: int
    allow_slow: bool = False
    allow_low_memory: bool = False

    def load(self, bundle: Path, on_hashed: OnHashed | None = None) -> Engine:
        """The engine of a bundle; its hashes are checked if somebody hears of it."""
        return Engine.load(
            bundle,
            allow_slow=self.allow_slow,
            allow_low_memory=self.allow_low_memory,
            check_hashes=on_hashed is not None,
            on_hashed=on_hashed or say_nothing,
        )


@dataclass(frozen=True)
class EvalProgress:
    """Whom an evaluation tells how far it is."""

    on_hashed: OnHashed = say_nothing
    on_total: Callable[[int], None] = lambda _: None  # steps, each of one window
    on_step: Callable[[str], None] = lambda _: None  # another one is done, and what is worked on


@dataclass(frozen=True)
class LayerFigures:
    """Means over all positions, for one layer: |difference| / |exact| of what it gives, and of a token's experts the
    share that is the same, 0 to 1 (None: a dense layer)."""

    layer: int
    hidden_error: float
    expert_agreement: float | None


@dataclass(frozen=True)
class Evaluation:
    """All figures of an evaluation; `layers` is None where the bundle's graph does not show its layers."""

    fidelity: Fidelity
    bits_per_weight: float  # in the files, scales and zero points included
    bits_per_weight_in_memory: float | None  # None: not estimated, see `memory_bytes`
    windows: int
    window: int
    positions: int  # that count, of all windows
    layers: tuple[LayerFigures, ...] | None

    def as_json(self) -> dict[str, Any]:
        """The figures by name, those of the logits first."""
        values = asdict(self)
        logits: dict[str, Any] = values.pop("fidelity")
        return logits | values


def evaluate(
    bundle: Path, checkpoint: Path, text: Path, options: EvalOptions, progress: EvalProgress | None = None
) -> Evaluation:
    """Compare a bundle with a checkpoint on a text.

    MoedgeError, before the long work, if the bundle is not of this checkpoint, if the text is too short, or if the
    engine or the export would refuse them.
    """
    progress = progress or EvalProgress()
    manifest = read_manifest(bundle)
    with Checkpoint(checkpoint) as source, tempfile.TemporaryDirectory(prefix="moedge-eval-") as scratch:
        model = understand(source, ExportOptions(EXACT)).model
        refuse_others(bundle, manifest, checkpoint, model)
        rehearse(source, model, options.window, EXACT, "if")
        tokenizer = Tokenizer.from_file(bundle / TOKENIZER_NAME)
        windows = read_windows(text, tokenizer, manifest.model, options.tokens, options.window)
        # for its refusals, which must come before the long work; it need not be in memory while the reference runs
        profile = options.load(bundle, progress.on_hashed).profile
        progress.on_total(len(windows) * (model.num_hidden_layers + 2))
        model = with_stored_head(source, model, [])
        recorded = _record_bundle(bundle, manifest, profile, model, windows, Path(scratch), progress)
        with StreamedModel(source, model, windows, Path(scratch)) as stream:
            layers = _compare_layers(stream, recorded, progress)
            divergences = compare_logits(options.load(bundle), stream, lambda: progress.on_step("logits"))
    on_disk, in_memory = weigh(manifest)
    return Evaluation(
        fidelity=summarize(divergences),
        bits_per_weight=on_disk,
        bits_per_weight_in_memory=in_memory,
        windows=len(windows),
        window=options.window,
        positions=sum(len(each.kl) for each in divergences),
        layers=layers,
    )


def refuse_others(bundle: Path, manifest: Manifest, checkpoint: Path, model: ModelConfig) -> None:
    """Raise MoedgeError unless the bundle can be of that checkpoint, as far as what both say of the model tells."""
    facts, experts = manifest.model, model.experts
    pairs: dict[str, tuple[object, object]] = {
        "model type": (facts.model_type, model.model_type),
        "vocabulary": (facts.vocab_size, model.vocab_size),
        "hidden size": (facts.hidden_size, model.hidden_size),
        "number of layers": (facts.num_hidden_layers, model.num_hidden_layers),
        "number of layers with experts": (facts.moe_layers, len(model.moe_layers)),
        "number of experts": (facts.num_experts, experts.num_experts),
        "number of experts a token": (facts.num_experts_per_tok, experts.num_experts_per_tok),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise MoedgeError(
                f"{bundle} was not made of {checkpoint}, the {what} is {ours} there and {theirs} here: give the "
                "checkpoint that it was exported from."
            )


@dataclass(frozen=True)
class _Recorded:
    """What a bundle's layers gave: [layers, windows, tokens, hidden_size] on the disk, and the experts they chose."""

    hidden: F32
    chosen: NDArray[np.int64]  # [moe layers, windows, tokens, top_k]


def _record_bundle(
    bundle: Path,
    manifest: Manifest,
    profile: Profile,
    model: ModelConfig,
    windows: NDArray[np.int64],
    scratch: Path,
    progress: EvalProgress,
) -> _Recorded | None:
    tapped = tap_bundle(bundle, manifest, profile, model)
    (count, tokens), top = windows.shape, model.experts.num_experts_per_tok
    if tapped is None:
        return None
    shape = model.num_hidden_layers, count, tokens, model.hidden_size
    hidden = np.memmap(scratch / "bundle", np.float32, "w+", shape=shape)
    chosen = np.empty((len(model.moe_layers), count, tokens, top), np.int64)
    for place, ids in enumerate(windows):
        hidden[:, place], chosen[:, place] = tapped.run(ids)
        progress.on_step("bundle")
    return _Recorded(hidden, chosen)


def _compare_layers(
    stream: StreamedModel, recorded: _Recorded | None, progress: EvalProgress
) -> tuple[LayerFigures, ...] | None:
    """Run the reference to its end; figures of each layer if there is what to compare with."""
    figures, judged, model = [], slice(SKIPPED, -1), stream.model
    for layer in range(model.num_hidden_layers):
        chosen = _run_layer(stream, progress)
        if recorded is None:
            continue
        pairs = zip(stream.hidden, recorded.hidden[layer], strict=True)
        error = np.mean([relative_error(exact[judged], ours[judged]) for exact, ours in pairs])
        agreement = None
        if chosen:
            theirs = recorded.chosen[model.moe_layers.index(layer)]
            shares = [share_experts(a[judged], b[judged]) for a, b in zip(chosen, theirs, strict=True)]
            agreement = float(np.mean(shares))
        figures.append(LayerFigures(layer, float(error), agreement))
    return None if recorded is None else tuple(figures)


def _run_layer(stream: StreamedModel, progress: EvalProgress) -> list[NDArray[np.int64]]:
    """Run the reference's next layer; the experts that it chose [tokens, top_k], a window each, none if it is dense."""
    what, chosen = f"layer {stream.layer}", []

    def note(_: int, taps: Taps) -> None:
        if taps.routed is not None:
            chosen.append(taps.routed.chosen)
        progress.on_step(what)

    stream.run_layer(note)
    return chosen
