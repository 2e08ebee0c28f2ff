"""Energy of a kind of work, the idle machine's subtracted: joules between two moments, by whatever reader there is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from moedge.runtime.profiling.power_readers import JouleReader, WattReader

IDLE_SECONDS = 2.0
BETWEEN = 0.1  # seconds between two looks at a sensor that tells watts


@dataclass(frozen=True)
class Energy:
    """Watts of the idle machine; of a prompt's tokens and of decoded ones the joules a token beyond that."""

    source: str
    idle_watts: float
    prompt_joules: float | None
    decode_joules: float | None


@dataclass(eq=False)
class EnergyMeter:
    """Counts joules while it is entered."""

    reader: JouleReader | WattReader
    clock: Callable[[], float] = time.monotonic
    joules: float | None = None  # after it was left; None if nothing could be read
    seconds: float = 0.0
    _begun: float = 0.0
    _first: float | None = None
    _looks: list[tuple[float, float]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "EnergyMeter":
        self._begun = self.clock()
        if hasattr(self.reader, "joules"):
            self._first = self.reader.joules()
        else:
            self._look()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self.clock() - self._begun
        if hasattr(self.reader, "joules"):
            last = self.reader.joules()
            self.joules = None if last is None or self._first is None else last - self._first
            return
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._look()
        if self._looks:
            self.joules = sum(watts for _, watts in self._looks) / len(self._looks) * self.seconds

    def _sample(self) -> None:
        while not self._done.wait(BETWEEN):
            self._look()

    def _look(self) -> None:
        watts = None if hasattr(self.reader, "joules") else self.reader.watts()
        if watts is not None:
            self._looks.append((self.clock(), watts))


def measure_idle(
    reader: JouleReader | WattReader, seconds: float = IDLE_SECONDS, sleep: Callable[[float], None] = time.sleep
) -> float | None:
    """Watts while nothing is done; None if the reader says nothing."""
    with EnergyMeter(reader) as meter:
        sleep(seconds)
    return None if meter.joules is None or meter.seconds <= 0 else meter.joules / meter.seconds


def joules_each(
    reader: JouleReader | WattReader, idle_watts: float, work: Callable[[], int], seconds: float
) -> float | None:
    """Joules beyond the idle machine's for each of what `work` says it did, again and again for so many seconds."""
    done, end = 0, time.monotonic() + seconds
    with EnergyMeter(reader) as meter:
        while done == 0 or time.monotonic() < end:
            done += work()
    return None if meter.joules is None else max(0.0, meter.joules - idle_watts * meter.seconds) / done
