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

    def reachable(self, length: int) -> int:
        """The longest length up to `length` that can be rolled back to."""
        return length if length >= self._released else length - length % self.step

    def trim(self, length: int) -> Iterator[tuple[int, int]]:
        """The timeline now holds `length` tokens: the tokens from one to before another whose rows nobody needs.

        After a rollback what was given back is forgotten: those rows are written anew.
        """
        self._released = min(self._released, length)
        while CAN_GIVE_BACK and self._released + self.step <= length - WINDOW_HISTORY:
            first = self._released
            self._released += self.step
            yield first, self._released - self.window

    def follow(self, other: "Eviction", length: int) -> Iterator[tuple[int, int]]:
        """Become like another's of `length` tokens: the tokens whose rows it holds."""
        self._released = other._released
        for end in range(self.step, self._released, self.step):
            yield end - self.window, end
        yield self._released - self.window, length
