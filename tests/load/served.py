"""`moedge serve` in a process of its own, and what can be seen of it from outside."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

LINE = re.compile(r"(?P<method>GET|POST) (?P<path>\S+) (?P<status>\d+) .*?\bms=(?P<ms>[\d.]+)")


class Served:
    """A server that answers, until `stop`. Its log is one line a request."""

    def __init__(self, bundle: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.log = log
        command = [os.environ["MOEDGE"], "serve", str(bundle), "--port", "0", *options]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with log.open("w") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
        assert self.process.stdout is not None
        greeting = self.process.stdout.readline()
        assert " answers at " in greeting, log.read_text()
        self.port = int(greeting.rpartition(":")[2].partition("/")[0])
        self.seen = psutil.Process(self.process.pid)
        manifest = json.loads((bundle / "manifest.json").read_bytes())
        self.ends = {str(token): -100 for token in manifest["model"]["eos_token_ids"]}

    def long(self, tokens: int, prompt: str = "turn on the kitchen light", **more: object) -> dict[str, object]:
        """A request for exactly so many tokens: the model may not end."""
        return {"prompt": prompt, "max_tokens": tokens, "logit_bias": self.ends, "temperature": 0, **more}

    def resident_mib(self) -> float:
        """Memory of its own that the process has now."""
        return float(self.seen.memory_full_info().uss) / (1 << 20)

    def counts(self) -> tuple[int, int]:
        """Open descriptors, and threads."""
        return self.seen.num_fds(), self.seen.num_threads()

    def told_ms(self, status: int) -> list[float]:
        """How long each answer of that status took by the server's own log."""
        lines = map(LINE.search, self.log.read_text().splitlines())
        return [float(found["ms"]) for found in lines if found is not None and int(found["status"]) == status]

    def idle(self) -> bool:
        """Whether nothing is generated: the process hardly works."""
        return float(self.seen.cpu_percent(0.3)) < 20

    def stop(self) -> int:
        """End it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
