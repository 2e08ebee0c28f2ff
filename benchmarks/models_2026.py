"""What the mixtures of 2026 take on a small machine, counted twice: exported a few layers at a time, and planned.

    python benchmarks/models_2026.py [MODEL ...] [--work FOLDER] [--write]

Of each model a checkpoint of random weights is written at its real shape, a few layers long (shapes_2026.py), exported
to the native plan and asked about with `moedge inspect --json`. What its layers take is added up to as many as the
model has of each kind, and held against `moedge plan --json` of the whole model's config.json: within 2 %, or it stops.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imagined_checkpoint import write_imagined_checkpoint
from scaled_layers import Scaled, scale
from shapes_2026 import MODELS, Published

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import DEFAULT, parse_plan
from moedge.quant.rounding import NEAREST

LENGTHS = (4096, 32768)
DEVICE = "generic-x86-64"
NEAR = 0.02
RESULTS = Path(__file__).parent / "results" / "models-2026.csv"
HEADINGS = (
    "#", "model", "model_type", "supported", "parameters, B", "active, B", "bits a weight", "file, GB",
    "memory at 4,096, GB", "at 32,768, GB", "of it cache, GB", "recurrent state, MB",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Of one model, as it is counted from its export; `planned` are the same figures by its config alone."""

    rank: int
    model: str
    model_type: str
    scheme: str
    total_parameters: int
    published_parameters: int
    active_parameters: int
    bits_per_weight: float
    planned_bits_per_weight: float
    weights_bytes: int
    planned_weights_bytes: int
    cache_bytes_4096: int
    planned_cache_bytes_4096: int
    cache_bytes_32768: int
    planned_cache_bytes_32768: int
    memory_bytes_4096: int
    planned_memory_bytes_4096: int
    memory_bytes_32768: int
    planned_memory_bytes_32768: int
    state_bytes: int
    planned_state_bytes: int

    def farthest(self) -> float:
        """The largest relative difference of a figure from its planned one, of parameters from what the makers tell."""
        values = asdict(self)
        pairs = [(values[name], values[f"planned_{name}"]) for name in values if f"planned_{name}" in values]
        pairs.append((self.total_parameters, self.published_parameters))
        return max((abs(one / other - 1) if other else float(one != 0)) for one, other in pairs)


def moedge(*words: str) -> dict[str, Any]:
    """What a verb says in JSON."""
    done = subprocess.run([sys.executable, "-m", "moedge.runtime", *words, "--json"], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure(rank: int, published: Published, folder: Path) -> Row:
    """Export a few layers and add them up; plan the whole. Leaves nothing in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    write_imagined_checkpoint(folder / "checkpoint", published.short())
    options = ExportOptions(parse_plan(DEFAULT), "native", max(LENGTHS), rounding=NEAREST)
    export_bundle(folder / "checkpoint", folder / "bundle", options)
    whole = folder / published.name / "config.json"
    whole.parent.mkdir()
    whole.write_text(json.dumps(published.config))
    scaled = scale(folder / "bundle", moedge("inspect", str(folder / "bundle")), published, LENGTHS)
    plans = [moedge("plan", str(whole), "--device", DEVICE, "--context", str(length)) for length in LENGTHS]
    row = _row(rank, published, scaled, plans)
    shutil.rmtree(folder)
    return row


def _row(rank: int, published: Published, scaled: Scaled, plans: Sequence[dict[str, Any]]) -> Row:
    short, long = plans
    caches = [plan["memory_bytes"]["cache"] for plan in plans]
    return Row(
        rank=rank,
        model=published.name,
        model_type=published.config["model_type"],
        scheme=DEFAULT,
        total_parameters=short["total_parameters"],
        published_parameters=round(1e9 * published.billions),
        active_parameters=short["active_parameters"],
        bits_per_weight=round(8 * scaled.parameters / short["total_parameters"], 3),
        planned_bits_per_weight=short["bits_per_weight"],
        weights_bytes=scaled.weights[0],
        planned_weights_bytes=short["memory_bytes"]["weights"],
        cache_bytes_4096=scaled.caches[0],
        planned_cache_bytes_4096=caches[0],
        cache_bytes_32768=scaled.caches[1],
        planned_cache_bytes_32768=caches[1],
        memory_bytes_4096=scaled.memory[0],
        planned_memory_bytes_4096=short["memory_bytes"]["total"],
        memory_bytes_32768=scaled.memory[1],
        planned_memory_bytes_32768=long["memory_bytes"]["total"],
        state_bytes=scaled.states,
        planned_state_bytes=short["state_bytes"],
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown, for README.md."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    for row in rows:
        cells = (
            str(row.rank), row.model, f"`{row.model_type}`", "yes", f"{row.total_parameters / 1e9:.1f}",
            f"{row.active_parameters / 1e9:.1f}", f"{row.bits_per_weight:.2f}", f"{row.weights_bytes / 1e9:.1f}",
            f"{row.memory_bytes_4096 / 1e9:.1f}", f"{row.memory_bytes_32768 / 1e9:.1f}",
            f"{row.cache_bytes_32768 / 1e9:.2f}",
            f"{row.state_bytes / 1e6:.0f}" if row.state_bytes else "–",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for, all without names; `--write` keeps results/models-2026.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--work", type=Path, default=Path("build/models-2026"), help="a folder with 20 GB of room")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    known = {model.name: (rank, model) for rank, model in enumerate(MODELS, 1)}
    if unknown := set(asked.models) - set(known):
        raise SystemExit(f"no shape is called {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    rows = []
    for rank, model in (known[name] for name in asked.models or known):
        rows.append(row := measure(rank, model, asked.work / model.name))
        print(f"{row.model}: {row.farthest():.2%} from what is planned", flush=True)
        if row.farthest() > NEAR:
            raise SystemExit(f"{json.dumps(asdict(row), indent=1)}\ncounted and planned differ by more than {NEAR:.0%}")
        if asked.write:
            _keep([row])
    print(table(rows))


def _keep(rows: Sequence[Row]) -> None:
    """Rows of models that were not measured now stay."""
    kept: dict[str, dict[str, Any]] = {}
    if RESULTS.is_file():
        with RESULTS.open(newline="") as file:
            kept = {row["model"]: row for row in csv.DictReader(file)}
    kept |= {row.model: asdict(row) for row in rows}
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*Row.__dataclass_fields__], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept.values(), key=lambda row: int(row["rank"])))


if __name__ == "__main__":
    main()
