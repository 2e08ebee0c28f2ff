"""A second thread follows the writer of a file: it hashes what is final, and journals each stage once it is durable.

So the sha256 of the whole costs no pass of its own at the end, and a file that an earlier run left is checked by the
very hash that is needed anyway. Only bytes in the order of the file can be hashed: the writer says how far it is final.
"""

import hashlib
import os
import threading
from collections import deque
from dataclasses import dataclass

from moedge.export.writing.journal import Journal, Mark

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Stage:
    name: str
    end: int
    tensors: list[str]


class Hasher:
    """The sha256 of a file that grows, taken through its descriptor by a thread behind the writer."""

    def __init__(self, descriptor: int, journal: Journal) -> None:
        self._descriptor = descriptor
        self._journal = journal
        self._hash = hashlib.sha256()
        self._done = 0
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))
        self._news = threading.Condition()
        self._final = 0
        self._stages: deque[_Stage] = deque()
        self._ended = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="hash of the weights", daemon=True)

    def check(self, end: int, sha256: str) -> bool:
        """Hash the part that is there already, before the writer starts; whether it is what the journal says."""
        self._hash_to(end)
        return self._done == end and self._hash.hexdigest() == sha256

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def advance(self, final: int) -> None:
        """All bytes before `final` are written and will not change."""
        with self._news:
            self._raise_failure()
            self._final = max(self._final, final)
            self._news.notify()

    def finish_stage(self, name: str, end: int, tensors: list[str]) -> None:
        """All bytes before `end` are final, and with them a stage that consumed these tensors."""
        with self._news:
            self._stages.append(_Stage(name, end, tensors))
        self.advance(end)

    def end(self) -> str:
        """Wait until all that is final is hashed and journalled; the sha256."""
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join()
        self._raise_failure()
        return self._hash.hexdigest()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        try:
            while self._step():
                pass
        except Exception as failure:  # for the writer to raise
            self._failure = failure

    def _step(self) -> bool:
        """Hash up to the next stage's end or as far as is final; False when nothing can follow."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._stages or self._final > self._done)
            stage = self._stages[0] if self._stages else None
            final, ended = self._final, self._ended
        target = min(final, stage.end) if stage else final
        self._hash_to(target)
        if self._done < target:
            raise AssertionError(f"the file ends at {self._done}, before the {target} bytes that are final")
        if stage is not None and self._done == stage.end:
            os.fsync(self._descriptor)
            self._journal.add(Mark(stage.name, stage.end, self._hash.copy().hexdigest(), stage.tensors))
            with self._news:
                self._stages.popleft()
            return True
        return not (ended and stage is None and self._done == final)

    def _hash_to(self, end: int) -> None:
        """Stops short of `end` only where the file does."""
        while self._done < end:
            count = os.preadv(self._descriptor, [self._buffer[: end - self._done]], self._done)
            if count == 0:
                return
            self._hash.update(self._buffer[:count])
            self._done += count
