"""One method of one mixture against the reference, kept on disk so that a table needs no second run."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fidelity.figures import Figures, compare, figures
from fidelity.methods import start
from fidelity.model import Array
from fidelity.workplace import Workplace, told


@dataclass(frozen=True)
class Measured:
    """A method's cost and distance; `rows` has figures.ROWS by position, a window an entry."""

    mixture: str
    method: str
    bits_per_weight: float
    file_bytes: int | None
    seconds: float  # to quantize and to score, together: an orientation
    note: str
    figures: Figures
    rows: list[Array]

    def summary(self) -> dict[str, object]:
        """Everything but the rows, for JSON."""
        said = {key: value for key, value in vars(self).items() if key not in ("rows", "figures")}
        return {**said, **asdict(self.figures)}


def measure(place: Workplace, mixture: str, method: str, fresh: bool) -> Measured:
    """Run it, or read what an earlier run left unless `fresh`."""
    path = place.of(mixture) / "results" / f"{method.replace(':', '-')}.npz"
    if path.exists() and not fresh:
        return read(path)
    told(f"{mixture}: {method}")
    began = time.monotonic()
    run = start(place, mixture, method)
    windows = zip(place.reference(mixture), run.logits, place.evaluation(), strict=True)
    rows = [compare(reference, logits, ids) for reference, logits, ids in windows]
    measured = Measured(
        mixture=mixture,
        method=method,
        bits_per_weight=run.tensor_bytes * 8 / place.model(mixture).parameters(),
        file_bytes=run.file_bytes,
        seconds=time.monotonic() - began,
        note=run.note,
        figures=figures(rows),
        rows=rows,
    )
    write(measured, path)
    return measured


def write(measured: Measured, path: Path) -> None:
    """Rows as an .npz, all else as a JSON text in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {key: value for key, value in vars(measured).items() if key not in ("rows", "figures")}
    partial = path.with_name(f"partial-{path.name}")
    np.savez(partial, rows=np.stack(measured.rows), said=np.array(json.dumps(said)))
    partial.rename(path)


def read(path: Path) -> Measured:
    """What `write` wrote."""
    with np.load(path) as kept:
        rows = list(kept["rows"])
        return Measured(**json.loads(str(kept["said"])), figures=figures(rows), rows=rows)
