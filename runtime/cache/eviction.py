"""Which rows of a windowed cache are still held: a kernel reads the last few only, so most old ones are given back.

All rows of the last WINDOW_HISTORY tokens and the window before them stay, so that a rollback by that much finds what
it reads. Of older ones a window before every `step`-th token stays: the lengths that a rollback can go to beyond. It
counts tokens; whose memory they are is the buffers'.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from moedge.runtime.cache.reservation import CAN_GIVE_BACK

WINDOW_HISTORY = 512
WINDOW_STEP = 256
STEP_WINDOWS = 4  # a step is at least so many windows: of old rows a quarter stays at most


def step_of(window: int) -> int:
    """Tokens between two old lengths that a rollback can go to."""
    return max(WINDOW_STEP, STEP_WINDOWS * window)


@dataclass(frozen=True)
class Held:
    """At most so many rows in one run up to the end, and so many windows before it."""

    rows: int
    windows: int


def count_held(window: int, length: int) -> Held:
    """What a buffer of `length` tokens holds at most."""
    windows = max(0, length - WINDOW_HISTORY) // step_of(window)
    return Held(min(length, WINDOW_HISTORY + step_of(window)), windows)


class Eviction:
    """What a buffer with a window has given back, as its timeline goes on."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.step = step_of(window)
        self._released = 0  # rollbacks to lengths below are possible at multiples of the step only
        self._begun = 0  # and to lengths below this one not at all, but to 0

    def reachable(self, length: int) -> int:
        """The longest length up to `length` that can be rolled back to."""
        nearest = length if length >= self._released else length - length % self.step
        return nearest if nearest >= self._begun else 0

    def holds(self, first: int, last: int) -> bool:
        """Whether the rows of all tokens from `first` to before `last`, both of the timeline, are there."""
        if self._begun and first < self._begun - self.window:
            return False
        return first >= min(self._released, -(-last // self.step) * self.step) - self.window

    def begin(self, first: int, length: int) -> None:
        """The timeline, which held nothing, has got `length` tokens, with rows from `first` on."""
        self._begun = first + self.window if first else 0
        self._released = 0

    def trim(self, length: int) -> Iterator[tuple[int, int]]:
        """The timeline now holds `length` tokens: the tokens from one to before another whose rows nobody needs.

        After a rollback what was given back is forgotten: those rows are written anew.
        """
        self._released = min(self._released, length)
        if length < self._begun:
            self._begun = 0
        while CAN_GIVE_BACK and self._released + self.step <= length - WINDOW_HISTORY:
            first = self._released
            self._released += self.step
            yield first, self._released - self.window

    def follow(self, other: "Eviction", length: int) -> Iterator[tuple[int, int]]:
        """Become like the first `length` tokens, a length to go back to, of another's: those whose rows it holds."""
        self._released, self._begun = min(other._released, length), other._begun
        first = max(0, self._begun - self.window)
        for end in range(self.step, self._released, self.step):
            if end >= self._begun:
                yield end - self.window, end
        yield max(first, self._released - self.window), length
