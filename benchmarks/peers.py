"""The same weights through moedge and every other engine that runs them on a CPU, in turn, in one run.

    make bench                                          # all shapes; half an hour once the files are there
    make bench KEEP=FOLDER                              # files of many gigabytes stay there, and are taken from there
    python benchmarks/peers.py --prepare --keep FOLDER  # makes the files, measures nothing
    python benchmarks/peers.py --shape granite --engine moedge:native --engine llama.cpp:Q4_0 --quick

Weights are random (peers/weights.py), the same for all, and route as a trained model's do, which is printed. Beside
every rate stands how far the engine's logits are from the exact model's: KL in nats a token, and the error as a share
of the logits' spread. That says what its number formats lose on weights that spread normally, not how well a trained
model answers. Writes benchmarks/results/MACHINE*.csv and the tables of README.md and docs/bench_figures.md, unless
--quick; --json prints the same.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from peers.figures import EngineFacts, Figure, Verdict, as_json, figures, judge, read_csv, write_csv
from peers.measuring import CLOCK, Amount, Samples, measure_shape
from peers.page import summary, table, targets, together_table, write_region
from peers.preparing import ENGINES, ROOT, Place, obstacle, prepare
from peers.shapes import SHAPES, PeerShape

from moedge.devices.detect import detect
from moedge.runtime.bench.provenance import find_commit
from moedge.runtime.manifest import ROTARY_TABLES, read_manifest
from moedge.runtime.token_bytes import token_bytes

DEFAULT = tuple(engine for engine in ENGINES if engine != "moedge:if")
# Of the others, ONNX Runtime's plan is made where it is asked for by --engine: files and minutes for little.
WITH_FUSED = ("granite", "olmoe", "gpt-oss")
NEEDS = {"llama.cpp": ("llama_cpp", "gguf"), "genai": ("onnxruntime_genai",), "transformers": ("transformers", "torch")}
PACKAGES = ("moedge", "onnxruntime", "llama-cpp-python", "onnxruntime-genai", "transformers", "torch", "gguf")
QUICK = Amount(rounds=2, steps=16, deep=0)


def installed(engines: list[str]) -> list[str]:
    """Those whose packages are here; the others are named on stderr, as no table would show that they are missing."""
    left = []
    for engine in engines:
        missing = [name for name in NEEDS.get(engine.partition(":")[0], ()) if find_spec(name) is None]
        if missing:
            print(f"** {engine} is LEFT OUT: {', '.join(missing)} is not installed here", file=sys.stderr)
        else:
            left.append(engine)
    return left


def gather_facts(place: Place, samples: Samples, found: list[Figure], threads: int) -> list[EngineFacts]:
    """What engines said of themselves, their files' bits a weight, and how much of the bandwidth moedge takes."""
    nan, facts = float("nan"), list[EngineFacts]()
    said_by = (threads, time.strftime("%Y-%m-%d"), find_commit(ROOT) or "")
    for engine, said in samples.facts.items():
        if engine in samples.failed:
            continue
        held = said.get("memory", {"anonymous": 0, "file": 0})
        lost = (float(said.get(name, nan)) for name in ("kl", "error", "top1"))
        share = bandwidth_share(place, samples, found) if engine == CLOCK else nan
        cost = (float(said["load_s"]), int(held["anonymous"]), int(held["file"]), share)
        facts.append(EngineFacts(place.shape.name, engine, bits_a_weight(place, engine), *lost, *cost, *said_by))
    return facts


def bits_a_weight(place: Place, engine: str) -> float:
    """Of the engine's own file, over the weights that the model has."""
    path, (maker, _, _) = place.path(engine), engine.partition(":")
    if not place.reference.exists():
        return float("nan")
    with np.load(place.reference) as kept:
        parameters = int(kept["parameters"])
    if maker == "transformers":
        return 16.0
    if maker == "llama.cpp":
        size = path.stat().st_size
    elif engine == "genai:own":
        size = sum(each.stat().st_size for each in path.glob("*.data"))
    else:
        size = sum(group.bytes for group in read_manifest(path).tensors if group.name != ROTARY_TABLES)
    return 8 * size / parameters


def bandwidth_share(place: Place, samples: Samples, found: list[Figure]) -> float:
    """Of what memory gives, how much a step of moedge's at depth 0 reads."""
    rates = [each.median for each in found if (each.engine, each.figure) == (CLOCK, "decode at 0")]
    bandwidth = samples.facts.get(CLOCK, {}).get("bandwidth")
    if not rates or not bandwidth:
        return float("nan")
    must = token_bytes(read_manifest(place.path(CLOCK)), cache=0)
    return float("nan") if must is None else must.total * rates[0] / bandwidth


def routing(place: Place) -> str:
    """How the model routes, in a sentence."""
    if not place.reference.exists():
        return "how it routes is NOT KNOWN, nor any fidelity: the exact model was not run"
    with np.load(place.reference) as kept:
        used, repeated, *_ = kept["routing"].tolist()
    return f"{used:.0%} of experts used by 128 random tokens, {repeated:.0%} of a token's used by the one before"


def machine_name() -> str:
    """For a file's name."""
    machine = detect()
    return re.sub(r"[^a-z0-9]+", "-", f"{machine.cpu or machine.architecture} {machine.cores} cores".lower()).strip("-")


def heading(threads: int) -> str:
    """What the table's numbers were measured on and with."""
    machine, there = detect(), [name for name in PACKAGES if _version(name)]
    versions = ", ".join(f"{name} {_version(name)}" for name in there)
    return (
        f"{machine.cpu} ({' '.join(machine.isa[-3:])}), {threads} threads, {time.strftime('%Y-%m-%d')}, moedge at "
        f"{find_commit(ROOT) or 'no commit'}; {versions}. Tokens/s, medians of rounds in turn; in brackets how many "
        "times as fast moedge's native plan was beside it, with the spread. Prompts of 2,048 and more were run once."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--keep", type=Path, help="where files are kept, up to 35 GB; default: nowhere")
    parser.add_argument("--prepare", action="store_true", help="make the files and stop")
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing deep, no file written")
    parser.add_argument(
        "--long", action="store_true", help="prompts of 8,192 of every model, not of the narrow one only"
    )
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--scheme", default="balanced", help="of moedge's bundles")
    parser.add_argument("--threads", type=int, default=detect().fast_cores)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def publish(shape: str, found: list[Figure], facts: list[EngineFacts], threads: int) -> None:
    """Put a shape's results into this machine's files, and all that these hold into both pages."""
    results = ROOT / "benchmarks" / "results" / machine_name()
    rates, engines = results.with_name(f"{results.name}.csv"), results.with_name(f"{results.name}-engines.csv")
    write_csv(rates, Figure, found, [shape])
    write_csv(engines, EngineFacts, facts, [shape])
    found, facts = read_csv(rates, Figure), read_csv(engines, EngineFacts)
    verdicts = [each for shape in SHAPES.values() for each in judge(shape, found, facts)]
    write_region(ROOT / "README.md", f"{heading(threads)}\n\n{summary(found, facts)}")
    whole = (heading(threads), table(found, facts), together_table(found), targets(verdicts))
    write_region(ROOT / "docs" / "bench_figures.md", "\n\n".join(filter(None, whole)))


def main() -> None:
    args = parse()
    engines = installed(args.engine or list(DEFAULT))
    amount = QUICK if args.quick else Amount()
    amount = replace(amount, rounds=args.rounds or amount.rounds)
    found, facts, verdicts = list[Figure](), list[EngineFacts](), list[Verdict]()
    with ExitStack() as stack:
        keep = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moedge-peers-")))
        for name in args.shape or SHAPES:
            long = args.long or (SHAPES[name].target == "narrow" and not args.quick)
            amount = replace(amount, long=8192 if long else 0)
            one = measure(SHAPES[name], keep.absolute(), engines, amount, args)
            if one:
                found, facts, verdicts = (a + b for a, b in zip((found, facts, verdicts), one, strict=True))
                print(f"\n{table(one[0], one[1])}\n", file=sys.stderr)
                if not args.quick:
                    publish(name, one[0], one[1], args.threads)
    if args.prepare:
        return
    if args.json:
        judged = [row | {"verdict": each.words} for row, each in zip(as_json(verdicts), verdicts, strict=True)]
        said = {"figures": as_json(found), "engines": as_json(facts), "targets": judged}
        print(json.dumps(said | {"what": heading(args.threads)}, indent=1))
        return
    print(f"{heading(args.threads)}\n\n{summary(found, facts)}\n\n{table(found, facts)}\n")
    print(f"{together_table(found)}\n\n{targets(verdicts)}")


def measure(
    shape: PeerShape, keep: Path, engines: list[str], amount: Amount, args: argparse.Namespace
) -> tuple[list[Figure], list[EngineFacts], list[Verdict]] | None:
    """One shape, prepared and measured; None if it was only to be prepared."""
    possible = []
    for engine in engines:
        why = obstacle(engine, shape)
        if not args.engine and engine.endswith(":fused") and shape.name not in WITH_FUSED:
            why = why or "its files are made on demand only: --engine " + engine
        if why:
            print(f"{shape.name}: no {engine}, {why}", file=sys.stderr)
        else:
            possible.append(engine)
    place = Place.of(keep, shape, 8704, args.scheme)
    prepare(place, possible, args.threads)
    if args.prepare:
        return None
    print(f"{shape.name}: {routing(place)}", file=sys.stderr)
    begun = time.monotonic()
    samples = measure_shape(place, possible, amount, args.threads)
    print(f"{shape.name}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    found = figures(shape.name, samples)
    facts = gather_facts(place, samples, found, args.threads)
    return found, facts, judge(shape, found, facts)


if __name__ == "__main__":
    main()
