"""One engine in a process of its own: reads orders from stdin, a JSON line each, and answers each with one.

    python -m peers.worker llama.cpp:Q4_0 '{"shape": "granite", "path": ..., "threads": 2, "context": 4608}'

All engines are timed by the functions here. Tokens are random and new in each order, the same for all engines.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.engines import Job, Moedge, Peer, open_peer
from peers.shapes import SHAPES

SKIPPED = 16  # positions that fidelity leaves out: with so little before them, nothing is typical


def memory() -> dict[str, int]:
    """Bytes of this process that no file has, and those of files."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines[1:]}
    return {"anonymous": sizes["Anonymous:"], "file": sizes["Rss:"] - sizes["Anonymous:"]}


def random_tokens(shape: str, count: int, seed: int) -> list[int]:
    """Random ids, no two the same in a row; special ones are left out."""
    ids = np.random.default_rng(seed).integers(2, SHAPES[shape].config["vocab_size"], count)
    return [int(each) for each in ids]


class Worker:
    """The orders, by name."""

    def __init__(self, engine: str, job: Job) -> None:
        before, begun = memory(), time.perf_counter()
        self._job = job
        self._peer: Peer = open_peer(engine, job)
        self.loaded = {"seconds": time.perf_counter() - begun, **memory()}
        self.loaded["anonymous"] -= before["anonymous"]

    def prompt(self, tokens: int, seed: int, marks: list[int]) -> dict[str, Any]:
        """A new timeline of random tokens: seconds to each of `marks`, and to the end."""
        ids, at = random_tokens(self._job.shape, tokens, seed), 0
        self._peer.begin()
        begun, seconds = time.perf_counter(), []
        for mark in [*marks, tokens]:
            self._peer.feed(ids[at:mark])
            seconds.append(time.perf_counter() - begun)
            at = mark
        return {"seconds": seconds}

    def decode(self, tokens: int, seed: int) -> dict[str, Any]:
        """Go on, token by token: seconds of each."""
        seconds = []
        for token in random_tokens(self._job.shape, tokens, seed):
            begun = time.perf_counter()
            self._peer.feed([token])
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds}

    def together(self, sessions: int, past: int, tokens: int, seed: int) -> dict[str, Any]:
        """So many timelines of `past` tokens each, then a token more of each in every step: seconds of each step."""
        if not isinstance(self._peer, Moedge):
            raise TypeError("only moedge runs several timelines here")
        ids = np.array(random_tokens(self._job.shape, sessions * (past + tokens), seed)).reshape(sessions, -1)
        self._peer.begin_together(ids[:, :past].tolist())
        seconds = []
        for column in ids[:, past:].T.tolist():
            begun = time.perf_counter()
            self._peer.feed_together(column)
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds}

    def score(self, reference: str) -> dict[str, float]:
        """How far its answers are from those of a reference.npz: nats a token, and share of the spread."""
        with np.load(reference) as kept:
            ids, exact = kept["ids"], kept["logits"]
        self._peer.begin()
        kl, wrong, whole, agrees = [], 0.0, 0.0, 0
        for place, token in enumerate(ids.tolist()):
            said, right = self._peer.feed([token])[: exact.shape[1]], exact[place]
            if place < SKIPPED:
                continue
            p, q = (_log_softmax(each) for each in (right, said))
            kl.append(float((np.exp(p) * (p - q)).sum()))
            away, spread = (p - p.mean()) - (q - q.mean()), p - p.mean()
            wrong, whole = wrong + float(away @ away), whole + float(spread @ spread)
            agrees += int(right.argmax() == said.argmax())
        return {"kl": float(np.mean(kl)), "error": (wrong / whole) ** 0.5, "top1": agrees / len(kl)}

    def memory(self) -> dict[str, int]:
        """Of the process now."""
        return memory()

    def bandwidth(self) -> dict[str, float]:
        """Of this machine's memory, as `moedge bench` measures it, in bytes/s; the most that was seen."""
        from moedge.devices.memory import detect_memory
        from moedge.runtime.bench.bandwidth import choose_buffer, last_cache_bytes, measure_bandwidth

        caches = last_cache_bytes()
        size = choose_buffer(detect_memory().available_bytes, caches)
        return {"bytes_per_s": measure_bandwidth(self._job.threads, size, caches).bytes_per_s.high}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    x = logits.astype(np.float64)
    x -= x.max()
    return x - np.log(np.exp(x).sum())


def main() -> None:
    engine, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what engines print must not be taken for an answer

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        worker = Worker(engine, job)
        say(worker.loaded)
        for line in sys.stdin:
            order = json.loads(line)
            verb: Callable[..., dict[str, Any]] = getattr(worker, order.pop("do"))
            say(verb(**order))
    except Exception as error:
        say({"failed": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    main()
