"""Runs `mutated_child.py` over many seeds, and goes on behind one that ends it."""

import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bundle_mutations import copy_bundle

CHILD = Path(__file__).with_name("mutated_child.py")


@dataclass(frozen=True)
class Attempt:
    """What came of a mutation: served, refused, raised, hung, or died by the signal in `said`."""

    seed: int
    seconds: float
    outcome: str
    said: str


def try_mutations(bundle: Path, name: str, first: int, count: int, seconds: int = 10) -> list[Attempt]:
    """All seeds from `first` on, in copies of the bundle; a child that hangs in C is killed, and counts as hung."""
    attempts: list[Attempt] = []
    while len(attempts) < count:
        with tempfile.TemporaryDirectory() as folder:
            copied = copy_bundle(bundle, Path(folder) / "bundle")
            begin, left = first + len(attempts), count - len(attempts)
            command = [sys.executable, str(CHILD), str(copied), name, str(begin), str(left), str(seconds)]
            environment = {**os.environ, "PYTHONPATH": str(CHILD.parent), "OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
            ) as child:
                assert child.stdout is not None
                # the child ends itself where Python still runs; one that does not say anything for longer never will
                ended = _read(child, attempts, 3 * seconds + 60)
        if not ended and len(attempts) < count:
            code = child.returncode
            outcome = "hung" if code == -9 else "died"
            attempts.append(Attempt(first + len(attempts), 0.0, outcome, f"exit {code}"))
    return attempts


def _read(child: "subprocess.Popen[str]", attempts: list[Attempt], silence: float) -> bool:
    """Add what it tells; whether it told of all."""
    assert child.stdout is not None
    timer = threading.Timer(silence, child.kill)
    for line in child.stdout:
        timer.cancel()
        timer = threading.Timer(silence, child.kill)
        timer.start()
        seed, *rest = line.split(maxsplit=3)
        if len(rest) >= 2:
            attempts.append(Attempt(int(seed), float(rest[0]), rest[1], rest[2].strip() if len(rest) > 2 else ""))
    timer.cancel()
    return child.wait() == 0


def outcomes(attempts: list[Attempt]) -> Counter[str]:
    """How many of each."""
    return Counter(attempt.outcome for attempt in attempts)
