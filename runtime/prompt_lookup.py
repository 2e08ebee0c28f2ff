"""Guesses of the tokens that come next: what followed the same few tokens earlier in prompt and answer.

It knows how often such guesses came true and what they cost, and makes as many as pay, often none. It runs nothing and
chooses no token: `generation.py` takes a guess only where it is the very token that would have been chosen anyway.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import Manifest

LONGEST_MATCH, SHORTEST_MATCH = 4, 2  # tokens that must agree; one alone is followed by anything
LEAST_GAIN = 1.05  # tokens for the time of one, below which a guess is not worth what may go wrong in the estimate
UNMEASURED = 0.25  # of a step, for each row more, until it is known better


class StepCost:
    """What a step costs by how many rows it has, whoever's, on one engine and machine; learned from steps as they run.

    In a mixture every row may read experts of its own, so that a row more can be anything from almost nothing to a
    whole step, and the first one dearer than the next. Any thread may note and ask.
    """

    def __init__(self) -> None:
        self._one: float | None = None  # seconds of a step of one row; this and the next are moving averages
        self._steps = {1: 1.0}  # rows to their cost, in steps of one row
        self._lock = Lock()

    def note(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        with self._lock:
            if rows == 1:
                self._one = seconds if self._one is None else self._one + 0.2 * (seconds - self._one)
                # nothing measures what is not tried any more: what a bad moment left fades, until it is tried again
                for tried, cost in self._steps.items():
                    self._steps[tried] += 0.02 * min(0.0, 1 + UNMEASURED * (tried - 1) - cost)
            elif self._one is not None:
                seen = seconds / self._one
                self._steps[rows] = seen + 0.7 * (self._steps.get(rows, seen) - seen)

    def of(self, most: int) -> NDArray[np.float64]:
        """What 1 to `most` rows cost, in steps of one row: as measured, between and beyond that in straight lines."""
        with self._lock:
            steps = dict(self._steps)
        tried = sorted(steps)
        costs = [steps[rows] for rows in tried]
        last = tried[-1]
        slope = (costs[-1] - 1) / (last - 1) if last > 1 else UNMEASURED
        rows = np.arange(1, most + 1)
        found: NDArray[np.float64] = np.interp(rows, tried, costs) + slope * np.maximum(0, rows - last)
        return found

    def guesses_that_pay(self, chance: float, most: int, beside: int = 0) -> int:
        """How many guesses, up to `most`, give most tokens for the time, if each comes true with this chance.

        k guesses give 1 + chance + ... + chance^k tokens, as none counts after a wrong one; each of the rows `beside`,
        which others have in the same step, gives one. 0 if a step without guesses does best, or none of one row was
        ever measured.
        """
        if self._one is None:
            return 0
        gains = (beside + np.cumsum(chance ** np.arange(most + 1))) / self.of(beside + most + 1)[beside:]
        best = int(gains.argmax())
        return best if gains[best] > LEAST_GAIN * gains[0] else 0


class PromptLookup:
    """The tokens of one timeline, which may grow by `room` and the one after, and guesses of at most `most` after them.

    Every guess is compared with what came, made or not: so that those that did not pay are noticed when they would.
    """

    def __init__(self, token_ids: Sequence[int], most: int, room: int, cost: StepCost) -> None:
        self.cost = cost
        self._most = most
        self._count = len(token_ids)
        self._tokens = np.empty(self._count + room + 1, np.int32)  # memory where it is written
        self._tokens[: self._count] = token_ids
        self._expected: list[int] = []
        self._right, self._tried = 1.0, 2.0  # lately; older ones count less and less

    @property
    def chance(self) -> float:
        """The share of guesses that came true lately, of those whose predecessors did."""
        return self._right / self._tried

    def add(self, token_id: int) -> None:
        """What came next."""
        self._tokens[self._count] = token_id
        self._count += 1
        if self._expected:
            right = self._expected.pop(0) == token_id
            self._right, self._tried = 0.95 * self._right + right, 0.95 * self._tried + 1
            if not right:
                self._expected = []

    def guess(self, most: int, beside: int = 0) -> list[int]:
        """The tokens to feed behind the last one, at most `most`, in a step in which others have rows `beside`."""
        self._expected = self._look_up()
        return self._expected[: self.cost.guesses_that_pay(self.chance, min(most, len(self._expected)), beside)]

    def _look_up(self) -> list[int]:
        """What followed the latest place where most of the last tokens stood already."""
        count, tokens = self._count, self._tokens
        if count <= SHORTEST_MATCH:
            return []
        begins = count - SHORTEST_MATCH  # a place is where a match ends and what followed begins
        same = tokens[:begins] == tokens[begins]
        for i in range(1, SHORTEST_MATCH):
            same &= tokens[i : begins + i] == tokens[begins + i]
        places = np.flatnonzero(same) + SHORTEST_MATCH
        for length in range(SHORTEST_MATCH + 1, LONGEST_MATCH + 1):
            longer = places[places >= length]
            longer = longer[tokens[longer - length] == tokens[count - length]]
            if not len(longer):
                break
            places = longer
        if not len(places):
            return []
        followed = tokens[places[-1] : count]
        return [int(token) for token in np.resize(followed, self._most)]  # what repeats itself goes on doing so


def refuse_guesses(manifest: Manifest) -> None:
    """MoedgeError for a model that cannot take wrong guesses back."""
    if any(tensor.is_state for tensor in manifest.cache):
        raise MoedgeError(
            f"{manifest.name} has recurrent layers, whose state cannot go back over wrong guesses: leave "
            "prompt_lookup_num_tokens at 0."
        )
