"""Where a measurement comes from: versions, the bundle, the profile as it was resolved, and the machine."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moedge.devices.detect import detect
from moedge.devices.errors import MoedgeError
from moedge.devices.structure import unstructure
from moedge.runtime.engine import Engine
from moedge.runtime.kernels.library import open_library
from moedge.runtime.manifest import MANIFEST_NAME

PACKAGES = ("moedge", "onnxruntime", "numpy", "tokenizers")
SOURCE = Path(__file__).parents[2]


def find_provenance(engine: Engine, load: float) -> dict[str, Any]:
    """For JSON. `load` is how busy the machine was in the minute before, as a mean number of running threads."""
    manifest, machine = engine.manifest, detect()
    return {
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "commit": find_commit(SOURCE),
        "bundle": {
            "name": manifest.name,
            "manifest_sha256": hashlib.sha256((engine.folder / MANIFEST_NAME).read_bytes()).hexdigest(),
            "scheme": manifest.scheme,
            "plan": manifest.experts.plan,
            "model_type": manifest.model.model_type,
            "made_by": manifest.tools,
        },
        "profile": unstructure(engine.profile),
        "kernels": _kernels(manifest.experts.plan),
        "machine": unstructure(machine) | {"system": platform.platform()},
        "load": round(load, 2),
        "environment": {name: os.environ[name] for name in ("MOEDGE_ISA", "GLIBC_TUNABLES") if name in os.environ},
    }


def find_commit(source: Path) -> str | None:
    """The commit that this moedge was checked out at, with a mark if files differ; None if it was installed."""
    if not (source / ".git").exists():
        return None
    words = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _kernels(plan: str) -> str:
    """The instruction set that the plan's kernels run on."""
    if plan != "native":
        return "onnxruntime's choice"
    try:
        return open_library().isa
    except MoedgeError as error:
        raise AssertionError("a native bundle was measured without its kernels") from error
