"""moedge's bundles of a checkpoint: exported by the command, scored by the engine and its kernels."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fidelity.model import Array
from moedge.runtime import Engine
from moedge.runtime.manifest import ROTARY_TABLES, read_manifest


def export(checkpoint: Path, bundle: Path, scheme: str, calibration: Path | None) -> None:
    """`moedge export`, anew; `calibration` None leaves that option out."""
    chosen = ["--scheme", scheme, "--force", *(["--calibration", str(calibration)] if calibration else [])]
    command = [sys.executable, "-m", "moedge.runtime", "export", str(checkpoint), "--output", str(bundle), *chosen]
    subprocess.run(command, check=True, stdout=sys.stderr)


def logits_of(bundle: Path, ids: np.ndarray) -> Iterator[Array]:
    """Logits [tokens, vocab] window by window, each from an empty cache."""
    engine = Engine.load(bundle)
    for row in ids:
        yield engine.score(row.tolist())


def tensor_bytes(bundle: Path) -> int:
    """What the weights cost on disk, scales and zero points included."""
    return sum(group.bytes for group in read_manifest(bundle).tensors if group.name != ROTARY_TABLES)


def file_bytes(bundle: Path) -> int:
    """What the whole bundle costs on disk."""
    return sum(entry.size for entry in read_manifest(bundle).files.values())
