"""Two claims about decoding, measured in turn on this machine: time a token does not follow the number of experts, nor
the context limit, only the length used.

    python benchmarks/decode.py experts     # 16 against 128 experts of the same size, the same number active
    python benchmarks/decode.py context     # the same session at context limits of 1,024 and 32,768, at several depths

Prints a table for people; `--json` for machines. Medians over rounds A B A B …, with the spread.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from random_checkpoint import Shape, write_random_checkpoint

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

# Granite-3.1-1B-A400M's layer, fewer of them: 1024 hidden, experts of 512, top 8
SHAPE = Shape(1024, 512, 16, 8, 4, 16, 8, 64, 16384)


def decode_times(engine: Engine, depth: int, tokens: int, seed: int) -> list[float]:
    """Seconds of each of `tokens` steps from `depth` tokens on, random tokens throughout."""
    ids = np.random.default_rng(seed).integers(2, engine.manifest.model.vocab_size, depth + tokens).tolist()
    session = engine.session()
    session.prefill(ids[:depth])
    times = []
    for token in ids[depth:]:
        begun = time.perf_counter()
        session.decode(token)
        times.append(time.perf_counter() - begun)
    return times


def compare(engines: dict[str, Engine], depth: int, rounds: int, tokens: int) -> dict[str, dict[str, float]]:
    """Milliseconds a token of every engine, in turn: the median round, the fastest and the slowest."""
    medians: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):
        for name, engine in engines.items():
            times = decode_times(engine, depth, tokens, number)
            if number:  # the first round warms up
                medians[name].append(statistics.median(times) * 1e3)
    return {n: {"median": statistics.median(m), "min": min(m), "max": max(m)} for n, m in medians.items()}


def bundle(folder: Path, shape: Shape, context: int, scheme: str) -> Engine:
    """A random model of that shape, exported and loaded."""
    checkpoint = folder / f"checkpoint-{shape.num_experts}"
    target = folder / f"bundle-{shape.num_experts}-{context}"
    if not checkpoint.exists():
        write_random_checkpoint(checkpoint, shape)
    export_bundle(checkpoint, target, ExportOptions(parse_plan(scheme), context=context))
    return Engine.load(target)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["experts", "context"])
    parser.add_argument("--scheme", default="int4")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "experts":
            shapes = {f"{n} experts": replace(SHAPE, num_experts=n) for n in (16, 128)}
            engines = {label: bundle(folder, shape, 4096, options.scheme) for label, shape in shapes.items()}
            depths = [0]
        else:
            engines = {f"limit {limit}": bundle(folder, SHAPE, limit, options.scheme) for limit in (1024, 32768)}
            depths = [1, 256, 768]
        results = {str(d): compare(engines, max(d, 1), options.rounds, options.tokens) for d in depths}
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for depth, rows in results.items():
        first = next(iter(rows.values()))["median"]
        for label, row in rows.items():
            print(
                f"depth {depth:>4}  {label:<12} {row['median']:7.3f} ms a token "
                f"({row['min']:.3f} to {row['max']:.3f})  {row['median'] / first:5.2f} x"
            )


if __name__ == "__main__":
    main()
