"""How much of the machine others used while something was measured, so that their work is not taken for ours."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

BUSY = 0.15  # cores of others, from which on settings are not judged


def busy_seconds() -> float:
    """Of all CPUs together, since the machine was started; what a host gave to other machines is not among them."""
    now = psutil.cpu_times()
    return float(now.user + now.system + getattr(now, "nice", 0.0) + getattr(now, "irq", 0.0))


def own_seconds() -> float:
    """Of this process and those that it has ended."""
    mine = psutil.Process().cpu_times()
    return float(mine.user + mine.system + mine.children_user + mine.children_system)


@dataclass(eq=False)
class Company:
    """Counts from when it was made, or last asked."""

    busy: Callable[[], float] = busy_seconds
    own: Callable[[], float] = own_seconds
    clock: Callable[[], float] = time.monotonic
    _before: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        self._before = self.busy(), self.own(), self.clock()

    def cores(self) -> float:
        """How many cores others kept busy, on average."""
        now = self.busy(), self.own(), self.clock()
        busy, own, seconds = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return max(0.0, busy - own) / seconds if seconds > 0 else 0.0
