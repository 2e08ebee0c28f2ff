"""How long something is measured, and what is said of the results: repeated within a time, never without end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from moedge.runtime.bench.spread import Spread

Clock = Callable[[], float]


@dataclass(frozen=True)
class Measured:
    """A figure of several runs: their median, the least and the most."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Measured":
        """Of at least one."""
        spread = Spread.of(values)
        return cls(spread.median, spread.low, spread.high, len(values))

    def source(self, date: str, what: str) -> str:
        """What a profile says of it."""
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs, {self.low:.3g} to {self.high:.3g}"
        return f"measured by moedge profile, {date}, {runs}: {what}"


@dataclass
class TimeBudget:
    """Seconds that a run may take in all, from when it began."""

    seconds: float
    clock: Clock = time.monotonic
    begun: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.begun = self.begun or self.clock()

    @property
    def left(self) -> float:
        """Seconds, 0 at least."""
        return max(0.0, self.begun + self.seconds - self.clock())

    @property
    def taken(self) -> float:
        """Seconds so far."""
        return self.clock() - self.begun

    def share(self, wanted: float, kept: float = 0.0) -> float:
        """As many seconds as are wanted, or what is left without those that are `kept` for others."""
        return max(0.0, min(wanted, self.left - kept))


def repeat(
    run: Callable[[], float], seconds: float, least: int = 3, most: int = 400, clock: Clock = time.monotonic
) -> list[float]:
    """Results of `run`, again and again for so many seconds, `least` times whatever it takes; one more before them.

    The one before warms up and does not count.
    """
    run()
    end, found = clock() + seconds, list[float]()
    while len(found) < least or (clock() < end and len(found) < most):
        found.append(run())
    return found
