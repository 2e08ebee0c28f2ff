"""A worker from outside: started, asked, stopped. PeerFailedError tells of an engine that fails; others go on."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any

from peers.engines import Job
from peers.preparing import ROOT


class PeerFailedError(Exception):
    """What an engine's process said last."""


class PeerProcess:
    """One engine, loaded in a process of its own; `loaded` is what it said of its load."""

    def __init__(self, engine: str, job: Job) -> None:
        self.engine = engine
        command = [sys.executable, "-m", "peers.worker", engine, json.dumps(asdict(job))]
        self._process = subprocess.Popen(
            command, cwd=ROOT / "benchmarks", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.loaded = self._answer()
        except PeerFailedError:
            self.stop()
            raise

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """The answer to one order; PeerFailedError if there is none."""
        if self._process.stdin is None:
            raise AssertionError("the pipe was asked for")
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailedError(f"{self.engine} ended") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise AssertionError("the pipe was asked for")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailedError(f"{self.engine} ended")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise PeerFailedError(f"{self.engine}: {answer['failed']}")
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
