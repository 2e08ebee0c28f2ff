"""A whole random model in two plans, in turn: prompt, decode at two depths, load, memory of the process.

    python benchmarks/plans.py narrow                 # hidden 1024, 24 layers, 32 experts of 512, top 8: 1.4 B
    python benchmarks/plans.py wide --layers 4        # hidden 2048, 128 experts of 768, top 8
    python benchmarks/plans.py narrow --keep FOLDER   # checkpoint and bundles stay there, and are taken from there

Prints a table for people; `--json` for machines. Medians of rounds A B A B …, with the spread.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from random_checkpoint import Shape, write_random_checkpoint

from moedge.devices.profile import load_profile
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import DEFAULT, parse_plan
from moedge.runtime import Engine
from moedge.runtime.manifest import ExpertPlan

SHAPES = {
    "narrow": Shape(1024, 512, 32, 8, 24, 16, 8, 64, 49152),
    "wide": Shape(2048, 768, 128, 8, 8, 32, 4, 128, 65536),
}
PROMPT, STEPS = 512, 48
PLANS: tuple[ExpertPlan, ...] = ("fused", "native")


def anonymous_bytes() -> int:
    """Memory of this process that no file has."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous"))


def prepare(folder: Path, shape: Shape, scheme: str, plan: ExpertPlan) -> Path:
    """The bundle of that plan, made if it is not there; weights are rounded to nearest, as speed does not ask."""
    checkpoint, bundle = folder / "checkpoint", folder / f"{plan}-{scheme}"
    if not checkpoint.exists():
        write_random_checkpoint(checkpoint, shape)
    if not bundle.exists():
        export_bundle(checkpoint, bundle, ExportOptions(parse_plan(scheme), plan))
    return bundle


def decode_rate(engine: Engine, ids: list[int], depth: int) -> tuple[float, float]:
    """Tokens/s of a prompt of `depth` tokens, and of the steps after it."""
    session = engine.session()
    begun = time.perf_counter()
    session.prefill(ids[:depth])
    prompt, times = depth / (time.perf_counter() - begun), []
    for token in ids[depth : depth + STEPS]:
        begun = time.perf_counter()
        session.decode(token)
        times.append(time.perf_counter() - begun)
    return prompt, 1 / statistics.median(times)


def compare(bundles: dict[str, Path], rounds: int, spin: bool) -> dict[str, dict[str, Any]]:
    """By plan: seconds and anonymous bytes of the load, and rates of every round."""
    profile, found, engines = replace(load_profile("auto"), allow_spinning=spin), {}, {}
    for plan, bundle in bundles.items():
        before, begun = anonymous_bytes(), time.perf_counter()
        engines[plan] = Engine.load(bundle, profile, check_hashes=False)
        found[plan] = {"load_seconds": time.perf_counter() - begun, "anonymous_bytes": anonymous_bytes() - before}
        found[plan] |= {"weights_bytes": (bundle / "weights.bin").stat().st_size}
        found[plan] |= {"prompt": [], "decode_at_0": [], "decode_at_512": []}
    for number in range(rounds + 1):
        for plan, engine in engines.items():
            vocabulary = engine.manifest.model.vocab_size
            ids = np.random.default_rng(number).integers(2, vocabulary, PROMPT + STEPS).tolist()
            prompt, deep = decode_rate(engine, ids, PROMPT)
            _, shallow = decode_rate(engine, ids, 1)
            if number:  # the first round warms up
                for name, value in (("prompt", prompt), ("decode_at_0", shallow), ("decode_at_512", deep)):
                    found[plan][name].append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--scheme", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spinning", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    shape = replace(shape, num_hidden_layers=args.layers or shape.num_hidden_layers)
    with ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        bundles = {plan: prepare(folder, shape, args.scheme, plan) for plan in PLANS}
        found = compare(bundles, args.rounds, args.spinning)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for plan, told in found.items():
        print(f"{plan}: load {told['load_seconds']:.2f} s, anonymous {told['anonymous_bytes'] / 2**20:.0f} MiB of "
              f"{told['weights_bytes'] / 2**20:.0f} MiB of weights")  # fmt: skip
    for name in ("prompt", "decode_at_0", "decode_at_512"):
        fused, native = (found[plan][name] for plan in PLANS)
        ratios = [b / a for a, b in zip(fused, native, strict=True)]
        print(
            f"{name}: {statistics.median(fused):.1f} ({min(fused):.1f}-{max(fused):.1f}) tokens/s fused, "
            f"{statistics.median(native):.1f} ({min(native):.1f}-{max(native):.1f}) native: "
            f"{statistics.median(ratios):.2f} x ({min(ratios):.2f}-{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
