"""What tells the caches of one model on one machine from all others: whatever may change their bits or their layout."""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import onnxruntime

from moedge.runtime.manifest import Manifest, render


def identity_of(manifest: Manifest, cache_type: str, isa: Sequence[str], kernels: Path | None) -> bytes:
    """A hash of a bundle (its manifest has the hashes of all of its files), of the numbers of its caches, and of what
    computes them: the machine's instructions, onnxruntime, moedge, and the library of kernels that the bundle uses.
    """
    library = hashlib.sha256(kernels.read_bytes()).hexdigest() if kernels else ""
    facts = [cache_type, sorted(isa), platform.machine(), onnxruntime.__version__, version("moedge"), library]
    digest = hashlib.sha256(render(manifest))
    digest.update(json.dumps(facts).encode())
    return digest.digest()
