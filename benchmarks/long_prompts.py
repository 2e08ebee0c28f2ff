"""Memory that caches take after a long prompt, measured beside what `moedge inspect` says of them.

    python benchmarks/long_prompts.py [MODEL ...] [--tokens 32768] [--work FOLDER]

Mixers are at their real shape (shapes_2026.py) in a few layers that hold every kind; there are few experts and a small
vocabulary, as caches know nothing of both. Resident memory of no file is taken after a first run of a prompt, when all
room for activations is there, and at its end: what was added between is the caches'.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from imagined_checkpoint import write_imagined_checkpoint
from shapes_2026 import FULL, MODELS, SLIDING, Published

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.rounding import NEAREST
from moedge.runtime import Engine
from moedge.runtime.bench.process_usage import resident
from moedge.runtime.sizes import cache_bytes_at, full_cache_bytes

LAYERS: dict[str, Sequence[str]] = {
    "gpt-oss-20b": [SLIDING, FULL] * 2,
    "gemma-4-26B-A4B": [*[SLIDING] * 5, FULL],
    "Mellum2-12B-A2.5B": [SLIDING, SLIDING, SLIDING, FULL],
}
FEW = {"vocab_size": 1024}
EXPERTS = {"num_experts": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "top_k_experts": 2}
FIRST = 512


@dataclass(frozen=True)
class Memory:
    """Bytes of caches at the end of a prompt, and added since its first run: told, and as the system counts them."""

    told: int
    told_added: int
    added: int
    full: int  # if no window gave rows back


def small(published: Published) -> dict[str, Any]:
    """The config of a few layers with few experts."""
    config = published.config[published.within] if published.within else published.config
    kinds = LAYERS[published.name]
    known = {key: value for key, value in EXPERTS.items() if key in config}
    return config | FEW | known | {"num_hidden_layers": len(kinds), "layer_types": [*kinds]}


def measure(bundle: Path, tokens: int) -> Memory:
    """Of a bundle in this process, which must be a fresh one."""
    engine = Engine.load(bundle)
    session = engine.session()
    ids = np.random.default_rng(0).integers(2, FEW["vocab_size"], tokens).tolist()
    session.prefill(ids[:FIRST])
    before = _anonymous()
    session.prefill(ids[FIRST:])
    added = _anonymous() - before
    manifest, kind = engine.manifest, engine.profile.cache_type
    told = cache_bytes_at(manifest, kind, (FIRST, tokens))
    without = replace(manifest, cache=tuple(replace(tensor, window=0) for tensor in manifest.cache))
    return Memory(told[tokens], told[tokens] - told[FIRST], added, full_cache_bytes(without, kind))


def _anonymous() -> int:
    found = resident()
    if found is None:
        raise SystemExit("this system does not tell what memory a process holds")
    return found.anonymous


def main() -> None:
    """A line a model; each is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", choices=[[], *LAYERS])
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--work", type=Path, default=Path("build/long-prompts"))
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bundle:
        print(json.dumps(vars(measure(asked.bundle, asked.tokens))))
        return
    for published in MODELS:
        if published.name not in (asked.models or LAYERS):
            continue
        folder = asked.work / published.name
        shutil.rmtree(folder, ignore_errors=True)
        write_imagined_checkpoint(folder / "checkpoint", small(published))
        options = ExportOptions(parse_plan("int8"), "native", asked.tokens, rounding=NEAREST)
        export_bundle(folder / "checkpoint", folder / "bundle", options)
        words = [sys.executable, __file__, "--bundle", str(folder / "bundle"), "--tokens", str(asked.tokens)]
        found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        megabytes = {name: f"{size / 1e6:.1f} MB" for name, size in found.items()}
        print(
            f"{published.name}, {len(LAYERS[published.name])} layers, {asked.tokens} tokens: caches "
            f"{megabytes['told']} told; since the first {FIRST} tokens {megabytes['told_added']} told and "
            f"{megabytes['added']} measured, {found['added'] / found['told_added']:.3f}; without windows "
            f"{megabytes['full']}",
            flush=True,
        )
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
