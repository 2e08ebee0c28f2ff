"""A busy neighbour: a process of our own that keeps one core busy for a while, and ends whatever happens to us."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 30  # seconds, should nobody be left to end it
SPIN = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def busy_neighbour(seconds: float = LONGEST) -> Iterator[None]:
    """Somebody else computes meanwhile."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", SPIN, str(seconds)], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
