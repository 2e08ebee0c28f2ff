"""The folder that a comparison works in: texts, mixtures in every engine's form, their references, what was measured.

- settings.json: what all of it was made with; a folder holds one comparison
- evaluation.txt, .npy: windows that nothing was fitted or calibrated on
- calibration.txt, .npy: windows for moments, importance and `moedge export --calibration`
- MIXTURE/weights.safetensors and shape.json; fits.json if it was fitted
- MIXTURE/checkpoint, f32.gguf: the same for moedge and for llama.cpp
- MIXTURE/moments.safetensors: second moments of every matrix's input
- MIXTURE/reference.npy: the fp32 model's normed states on evaluation windows
- MIXTURE/results: rows and costs, a file a method
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from fidelity.checkpoint import write_checkpoint
from fidelity.forward import hidden_states
from fidelity.gguf_file import write_gguf
from fidelity.mixture import split_evenly
from fidelity.model import Array, Model, load_model, save_model
from fidelity.moments import save_moments, second_moments
from fidelity.routing import split_routed
from fidelity.source import fetch, read_source
from fidelity.texts import fetch_texts, windows

MIXTURES = ("even", "routed")
EVEN_EXPERTS = 6


def setting(default: int, meaning: str) -> int:
    """A field of Settings with its help."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Settings:
    """What a comparison is made with; every field is an option of the command."""

    evaluate: int = setting(24, "windows that are scored")
    calibrate: int = setting(96, "windows that are calibrated on")
    fit: int = setting(64, "how many of these the routed mixture is fitted on")
    tokens: int = setting(256, "tokens of a window")
    experts: int = setting(12, "experts of the routed mixture")
    chosen: int = setting(8, "how many of them a token takes")
    seed: int = setting(0, "of the dithering of weights and of the fit")


@dataclass(frozen=True)
class Workplace:
    """The folder and what it was made with."""

    folder: Path
    settings: Settings

    def of(self, mixture: str) -> Path:
        """A mixture's own folder."""
        return self.folder / mixture

    @property
    def calibration_text(self) -> Path:
        """What `moedge export --calibration` reads."""
        return self.folder / "calibration.txt"

    def evaluation(self) -> np.ndarray:
        """Token ids [windows, tokens]."""
        return np.load(self.folder / "evaluation.npy")

    def model(self, mixture: str) -> Model:
        """The fp32 mixture."""
        return load_model(self.of(mixture))

    def reference(self, mixture: str) -> Iterator[Array]:
        """The fp32 mixture's logits [tokens, vocab], window by window."""
        table = self.model(mixture).tensors["token_embd.weight"]
        for states in np.load(self.of(mixture) / "reference.npy", mmap_mode="r"):
            yield states @ table.T


def prepare(folder: Path, settings: Settings, mixtures: tuple[str, ...]) -> Workplace:
    """Fetch and make whatever is missing. ValueError if the folder was made with other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    record, wanted = folder / "settings.json", json.dumps(asdict(settings))
    if record.exists() and record.read_text(encoding="utf-8") != wanted:
        raise ValueError(f"{folder} was made with {record.read_text(encoding='utf-8')}: choose another --folder")
    record.write_text(wanted, encoding="utf-8")
    place = Workplace(folder, settings)
    source_file = fetch(folder.parent / "downloads")
    for mixture in mixtures:
        if not (place.of(mixture) / "shape.json").exists():
            source = read_source(source_file, settings.seed)
            write_texts(place, source.tokenizer)
            made = make(place, mixture, source.model)
            told(f"{mixture}: checkpoint and GGUF")
            write_checkpoint(made, source.tokenizer, place.of(mixture) / "checkpoint", source.chat_template)
            write_gguf(made, source_file, place.of(mixture) / "f32.gguf")
            save_model(made, place.of(mixture))
        derive(place, mixture)
    return place


def told(step: str) -> None:
    """Say on stderr what takes time now."""
    print(step, file=sys.stderr, flush=True)


def write_texts(place: Workplace, tokenizer: Tokenizer) -> None:
    """The windows of both kinds, as token ids and as text."""
    texts = fetch_texts(place.folder.parent / "texts")
    for name, kinds, count in (
        ("evaluation", texts.evaluation, place.settings.evaluate),
        ("calibration", texts.calibration, place.settings.calibrate),
    ):
        ids = windows(tokenizer, kinds, count, place.settings.tokens)
        np.save(place.folder / f"{name}.npy", ids)
        spoken = "\n\n".join(tokenizer.decode(row.tolist()) for row in ids)
        (place.folder / f"{name}.txt").write_text(spoken, encoding="utf-8")


def make(place: Workplace, mixture: str, dense: Model) -> Model:
    """One of MIXTURES; what a fit came to is left in fits.json."""
    if mixture == "even":
        return split_evenly(dense, EVEN_EXPERTS)
    told("routed: fitting routers and down matrices (minutes)")
    settings, calibration = place.settings, np.load(place.folder / "calibration.npy")
    used = np.linspace(0, len(calibration) - 1, settings.fit).astype(int)
    made, fits = split_routed(dense, calibration[used], settings.experts, settings.chosen, settings.seed)
    error, loads = np.mean([fit.error for fit in fits]), [(fit.least_load, fit.most_load) for fit in fits]
    span = f"{np.min(loads):.0%} to {np.max(loads):.0%}"
    told(f"routed: {error:.1%} of the feed-forwards' energy lost, experts see {span} of the tokens")
    place.of(mixture).mkdir(parents=True, exist_ok=True)
    (place.of(mixture) / "fits.json").write_text(json.dumps([asdict(fit) for fit in fits], indent=1), encoding="utf-8")
    return made


def derive(place: Workplace, mixture: str) -> None:
    """Moments and reference of a mixture, where missing."""
    folder = place.of(mixture)

    def moments(path: Path) -> None:
        save_moments(second_moments(load_model(folder), np.load(place.folder / "calibration.npy")), path)

    def reference(path: Path) -> None:
        model, ids = load_model(folder), place.evaluation()
        np.save(path, np.concatenate([hidden_states(model, ids[i : i + 4]) for i in range(0, len(ids), 4)]))

    once(folder / "moments.safetensors", moments)
    once(folder / "reference.npy", reference)


def once(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that is not there; under its name only when it is whole."""
    if not path.exists():
        told(f"{path.parent.name}: {path.stem}")
        partial = path.with_name(f"partial-{path.name}")
        write(partial)
        partial.rename(path)
