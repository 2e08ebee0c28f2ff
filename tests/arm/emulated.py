"""Where programs run: as a board, by qemu in a root that describes it, or on this machine; on four CPUs at most."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from boards import CORES, Board
from description import describe

EMULATOR = "qemu-aarch64-static"
PYTHON = "usr/bin/python3.11"
LONGEST_S = 300  # a program that hangs fails its test; none is that slow


@dataclass(frozen=True)
class Place:
    """Python, and what stands before it."""

    python: tuple[str | Path, ...]
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Of this program's own, nothing that Python or moedge read."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", **more}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python with these words, to its end."""
        return subprocess.run(
            [*self.python, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
            env=self.environment(),
            preexec_fn=keep_to_cores,
        )

    def moedge(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command, to its end."""
        return self.run("-m", "moedge.runtime", *words)

    def start_moedge(self, *words: str | Path) -> subprocess.Popen[str]:
        """Run the command beside this program, which reads its stdout."""
        return subprocess.Popen(
            [*self.python, "-m", "moedge.runtime", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment(PYTHONUNBUFFERED="1"),
            preexec_fn=keep_to_cores,
        )


def emulate(described: Board, debian: Path, folder: Path, cpu: str | None = None) -> Place:
    """Programs see the board that is described, and have its CPU or another."""
    root = Path(mkdtemp(dir=folder))
    describe(described, debian, root)
    return Place((EMULATOR, "-cpu", cpu or described.cpu, "-L", root, root / PYTHON), root / "root")


def this_machine() -> Place:
    """No emulation."""
    return Place((sys.executable,), Path.home())


def keep_to_cores() -> None:
    """qemu shows programs the CPUs that it may run on itself."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
