"""How fast a checkpoint of Kimi K2's size becomes a bundle, against a plain copy of its files, and in how much memory.

    python benchmarks/k2_stream.py          # 15.5 GB at K2's real shapes; needs 29 GB of disk

One command makes the checkpoint (k2_checkpoint.py), then in turn copies its shards with fsync and exports it in a
process of its own, each from a cold page cache. Bytes a second are of the checkpoint, which both have read. Prints a
table for people; `--json` for machines.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from k2_checkpoint import K2Shape, checkpoint_bytes, write_k2_checkpoint

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.process_memory import peak_resident_bytes
from moedge.export.schemes import parse_plan

WHOLE_BYTES = 594e9  # Kimi K2 Thinking as published
MARGIN_BYTES = 1 << 30


@dataclass(frozen=True)
class Run:
    """One export: seconds, of the clock and of all cores; the most memory above what the process held before."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stages: dict[str, float]


def copy_shards(checkpoint: Path, target: Path) -> tuple[float, float]:
    """Seconds of a plain copy with fsync, of the clock and of all cores; the copy is removed again."""
    target.mkdir()
    begun, worked = time.perf_counter(), time.process_time()
    for shard in sorted(checkpoint.glob("*.safetensors")):
        shutil.copyfile(shard, target / shard.name)
    for path in target.iterdir():
        sync(path)
    seconds = time.perf_counter() - begun, time.process_time() - worked
    shutil.rmtree(target)
    return seconds


def export_once(checkpoint: Path, target: Path, scheme: str) -> Run:
    """The export, timed; for a fresh process, so that its peak memory is its own."""
    before = peak_resident_bytes()
    moments: list[tuple[str, float]] = []
    begun, worked = time.perf_counter(), time.process_time()
    progress = ExportProgress(on_stage=lambda stage: moments.append((stage, time.perf_counter())))
    export_bundle(checkpoint, target, ExportOptions(parse_plan(scheme)), progress)
    ended = time.perf_counter()
    ends = [moment for _, moment in moments[1:]] + [ended]
    stages = {name: end - moment for (name, moment), end in zip(moments, ends, strict=True)}
    return Run(ended - begun, time.process_time() - worked, peak_resident_bytes() - before, stages)


def in_fresh_process(checkpoint: Path, target: Path, scheme: str) -> Run:
    """`export_once` in an interpreter of its own; the bundle is removed again."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        run = pool.submit(export_once, checkpoint, target, scheme).result()
    shutil.rmtree(target)
    return run


def cool(checkpoint: Path) -> str:
    """Put the shards out of the page cache, where there are so many bytes that it matters; how."""
    if sum(shard.stat().st_size for shard in checkpoint.glob("*.safetensors")) < MARGIN_BYTES:
        return "nothing"
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
        return "drop_caches"
    except OSError:
        for shard in checkpoint.glob("*.safetensors"):
            descriptor = os.open(shard, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        return "posix_fadvise"


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def require_space(folder: Path, needed: int) -> None:
    """MoedgeError if the disk has no room for the checkpoint beside a copy or a bundle."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MoedgeError(f"{folder} has {free / 1e9:.0f} GB free and {needed / 1e9:.0f} GB are needed: give --folder.")


def provenance() -> dict[str, Any]:
    """What was measured on what."""
    root = Path(__file__).parent
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in ("moedge", "numpy", "safetensors", "onnx_ir")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def measure(folder: Path, checkpoint: Path, scheme: str, rounds: int) -> dict[str, Any]:
    """Copy and export in turn; medians, and every round."""
    nbytes = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    copies, runs, cooled = [], [], ""
    for number in range(rounds):
        cooled = cool(checkpoint)
        copies.append(copy_shards(checkpoint, folder / "copy"))
        cool(checkpoint)
        runs.append(in_fresh_process(checkpoint, folder / "bundle", scheme))
        print(f"round {number + 1}: copy {copies[-1][0]:.1f} s, export {runs[-1].seconds:.1f} s", file=sys.stderr)
    copy, export = statistics.median(seconds for seconds, _ in copies), statistics.median(run.seconds for run in runs)
    return {
        "checkpoint_bytes": nbytes,
        "cold_cache_by": cooled,
        "copy_bytes_per_s": nbytes / copy,
        "export_bytes_per_s": nbytes / export,
        "ratio": copy / export,
        "peak_bytes_above_interpreter": max(run.peak_bytes for run in runs),
        "whole_model_hours": WHOLE_BYTES / (nbytes / export) / 3600,
        "rounds": [
            {
                "copy_s": c,
                "copy_cpu_s": worked,
                "export_s": r.seconds,
                "export_cpu_s": r.cpu_seconds,
                "peak_bytes": r.peak_bytes,
                "stages_s": r.stages,
            }
            for (c, worked), r in zip(copies, runs, strict=True)
        ],
    }


def show(result: dict[str, Any]) -> None:
    """The table for people."""
    print(f"checkpoint  {result['checkpoint_bytes'] / 1e9:8.2f} GB, cold by {result['cold_cache_by']}")
    busy = {what: statistics.median(each[f"{what}_cpu_s"] for each in result["rounds"]) for what in ("copy", "export")}
    print(f"copy        {result['copy_bytes_per_s'] / 1e6:8.0f} MB/s, {busy['copy']:.0f} s of processor time")
    print(f"export      {result['export_bytes_per_s'] / 1e6:8.0f} MB/s, {busy['export']:.0f} s of processor time")
    print(f"ratio       {result['ratio']:8.0%} of the copy")
    print(f"peak memory {result['peak_bytes_above_interpreter'] / 1e6:8.0f} MB above the interpreter")
    print(f"{WHOLE_BYTES / 1e9:.0f} GB      {result['whole_model_hours']:8.2f} hours at this rate")
    for name in result["rounds"][0]["stages_s"]:
        seconds = statistics.median(each["stages_s"][name] for each in result["rounds"])
        print(f"  {name:<10}{seconds:8.1f} s")


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--checkpoint", type=Path, help="keep the checkpoint here, or take the one that is here")
    parser.add_argument("--scheme", default="int4", help="of what is not int4 already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experts", type=int, help="fewer than K2's 384, for a trial")
    parser.add_argument("--tiny", action="store_true", help="every other size small too: shows that it works, no more")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape = K2Shape.tiny() if options.tiny else K2Shape()
    if options.experts:
        shape = replace(shape, n_routed_experts=options.experts)
    try:
        with tempfile.TemporaryDirectory(prefix="k2_stream-", dir=options.folder) as name:
            folder = Path(name)
            checkpoint = options.checkpoint or folder / "checkpoint"
            present = checkpoint.exists()
            require_space(folder, checkpoint_bytes(shape) * (1 if present else 2) + MARGIN_BYTES)
            if not present:
                write_k2_checkpoint(checkpoint, shape)
            result = {**measure(folder, checkpoint, options.scheme, options.rounds), "provenance": provenance()}
    except MoedgeError as error:
        sys.exit(f"k2_stream: {error}")
    print(json.dumps(result, indent=1)) if options.json else show(result)


if __name__ == "__main__":
    main()
