"""The files of each engine, made from one set of weights and kept: GGUFs, bundles, the exact model's answers.

A folder a shape. What is there is not made again, but moedge's bundles are when the code that writes them has changed.
The checkpoint that exporters read, and the GGUF that llama.cpp quantizes, are as large as all others together, and go
once all is made.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.shapes import PeerShape
from peers.weights import RULE

ROOT = Path(__file__).absolute().parents[2]
# What an export depends on, beside the weights.
EXPORTING = ("export/**/*.py", "quant/**/*.py", "runtime/manifest.py")
ENGINES = (
    "moedge:native", "moedge:fused", "moedge:if", "llama.cpp:Q4_0", "llama.cpp:Q4_K_M", "genai:fused", "genai:own",
    "transformers:bf16",
)  # fmt: skip
BUILDABLE = ("lfm2_moe",)  # by onnxruntime-genai's own builder
K_BLOCK = 256  # weights that share a block in llama.cpp's K-quants
TOKENS = 128  # that fidelity is measured on


@dataclass(frozen=True)
class Place:
    """Where a shape's files lie. `context` is how many tokens moedge's bundles hold."""

    folder: Path
    shape: PeerShape
    context: int
    scheme: str

    @classmethod
    def of(cls, keep: Path, shape: PeerShape, context: int, scheme: str) -> "Place":
        """In a folder of its own, by what its weights depend on."""
        said = json.dumps([shape.config, shape.mixing, RULE])
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        most = min(context, shape.config["max_position_embeddings"])
        return cls(keep / f"{shape.name}-{digest}", shape, most, scheme)

    @property
    def reference(self) -> Path:
        """The exact model's answers, and how it routes."""
        return self.folder / "reference.npz"

    def path(self, engine: str) -> Path:
        """What an engine loads; transformers makes its weights itself."""
        maker, _, kind = engine.partition(":")
        if maker == "llama.cpp":
            return self.folder / f"{kind}.gguf"
        if engine == "genai:own":
            return self.folder / "genai-own"
        if maker == "transformers":
            return self.folder
        plan = "fused" if maker == "genai" else kind
        return self.folder / f"{plan}-{self.scheme}-{self.context}-{_hash(ROOT, EXPORTING)}"


def obstacle(engine: str, shape: PeerShape) -> str | None:
    """Why an engine cannot run a shape; None if it can."""
    kind = shape.config["model_type"]
    if engine == "genai:own" and kind == "gpt_oss":
        return "onnxruntime-genai's builder takes it in published MXFP4 only"
    if engine == "genai:own" and kind not in BUILDABLE:
        return f"onnxruntime-genai's builder does not know {kind}"
    if engine == "genai:fused" and kind in ("deepseek_v3", "lfm2_moe"):
        return "its schema has no such cache (docs/genai.md)"
    width = shape.config.get("moe_intermediate_size", shape.config["intermediate_size"])
    if engine == "llama.cpp:Q4_K_M" and width % K_BLOCK:
        return f"rows of {width} are no multiple of {K_BLOCK}, so that its experts would have other formats"
    return None


def prepare(place: Place, engines: Sequence[str], threads: int) -> None:
    """Make what these engines lack. Files that failed to be made are not there, and stderr says why."""
    place.folder.mkdir(parents=True, exist_ok=True)
    lacking = [each for each in dict.fromkeys(map(place.path, engines)) if not each.exists()]
    if not place.reference.exists():
        _run(f"{place.shape.name}: the exact model's answers", "refer", place, str(place.reference), str(threads))
    ggufs = [path for path in lacking if path.suffix == ".gguf"]
    if ggufs:
        whole = place.folder / "bf16.gguf"
        if _run(f"{place.shape.name}: GGUF in bf16", "gguf", place, str(whole)):
            for path in ggufs:
                _run(f"{place.shape.name}: {path.name}", "quantize", place, str(whole), str(path), str(threads))
        whole.unlink(missing_ok=True)
    bundles = [path for path in lacking if path.suffix != ".gguf"]
    if bundles:
        checkpoint = place.folder / "checkpoint"
        shutil.rmtree(checkpoint, ignore_errors=True)
        if _run(f"{place.shape.name}: checkpoint", "checkpoint", place, str(checkpoint)):
            for path in bundles:
                for old in place.folder.glob(f"{path.name.rpartition('-')[0]}-*"):
                    shutil.rmtree(old)
                order = "build" if path.name == "genai-own" else "export"
                _run(f"{place.shape.name}: {path.name}", order, place, str(checkpoint), str(path))
        shutil.rmtree(checkpoint, ignore_errors=True)


def _run(label: str, order: str, place: Place, *words: str) -> bool:
    """A step in a process of its own, whose memory goes with it; whether it succeeded."""
    print(f"preparing {label}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "peers.steps", order, place.shape.name, str(place.context), place.scheme, *words]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", stdout=sys.stderr, check=False)
    if done.returncode:
        print(f"** {label} failed: engines that need it are left out", file=sys.stderr, flush=True)
    return done.returncode == 0


def _hash(root: Path, patterns: Sequence[str]) -> str:
    """Of the contents of files."""

    def contents() -> Iterator[bytes]:
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                yield path.read_bytes()

    digest = hashlib.sha256()
    for content in contents():
        digest.update(content)
    return digest.hexdigest()[:8]
