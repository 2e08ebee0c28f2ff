"""Runs of several sessions at once: what of the weights all of them need is read once.

Only sessions whose caches lie in one arena, and only where the program `batches`. Which sessions step together is the
scheduler's; one alone runs by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.program import Program
from moedge.runtime.session import Session


@dataclass(frozen=True)
class Share:
    """Tokens that a session is to have in a run, of which the last `wanted` have logits; they are not checked."""

    session: Session
    token_ids: Sequence[int]
    wanted: int


class Batch:
    """Runs many sessions of a program; for one thread."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._road = program.open_road()
        self._logits = np.empty((0, program.vocab_size), np.float32)

    def run(self, shares: Sequence[Share]) -> list[NDArray[np.float32]]:
        """Append tokens to sessions of one arena in one run; of each the logits [wanted, vocab].

        They are memory that the next run writes again. Raises Interrupted if `interrupt` was called, MoedgeError if the
        bundle turns out not to be intact, and whatever the graph raises; then nothing was appended to any of them.
        """
        arena = shares[0].session.cache.arena
        assert all(share.session.cache.arena is arena for share in shares), "slots of another arena's memory"
        rows = sum(share.wanted for share in shares)
        if rows > len(self._logits):
            self._logits = np.empty((rows, self._program.vocab_size), np.float32)
        logits = self._logits[:rows]
        segments = [share.session.segment(share.token_ids, share.wanted) for share in shares]
        self._program.run_segments(self._road, arena, segments, logits)
        for share in shares:
            if share.wanted:
                share.session.prove()
        for share in shares:
            share.session.hold(share.token_ids)
        ends = np.cumsum([share.wanted for share in shares])
        return [logits[end - share.wanted : end] for share, end in zip(shares, ends, strict=True)]

    def interrupt(self) -> None:
        """From another thread: stop the run in progress at its next operator, or else the next one."""
        self._road.interrupt()

    def clear_interrupt(self) -> None:
        """Forget an interruption that came too late."""
        self._road.clear_interrupt()
