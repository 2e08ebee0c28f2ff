"""How warm the machine is and how fast it runs meanwhile, so that what was measured throttled is measured again.

Throttled is: firmware says so; a zone is at the temperature where its kernel begins to slow it down; or cores run more
than a tenth slower than after the first measurement. Every path hangs from `root`, as in devices/detect.py.
"""

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from moedge.devices.kernel_files import read_text, whole_number
from moedge.runtime.profiling.firmware import AskFirmware, ask_firmware

SLOWER = 0.9  # of the first clock under load
LOW_BITS = 0xF  # of get_throttled: under-voltage, capped, throttled, soft limit, each now
LONGEST_WAIT = 60.0  # seconds for a machine to cool
PAUSE = 2.0  # seconds between two looks
FIRMWARE_SAYS = ((1, "under-voltage"), (2, "clock capped"), (4, "throttled"), (8, "soft temperature limit"))
HOT_SENSORS = ("coretemp", "k10temp", "cpu_thermal", "zenpower")  # hwmon names

T = TypeVar("T")


@dataclass(frozen=True)
class HeatMoment:
    """One look: clock in MHz and temperature in °C, None where nothing tells; why it is throttled, or ""."""

    when: str
    seconds: float  # since the run began
    mhz: float | None
    celsius: float | None
    throttled: str


@dataclass(eq=False)
class HeatWatch:
    """Looks after each measurement, waits while the machine is too hot, and has what was measured then done again."""

    root: Path = Path("/")
    ask: AskFirmware = ask_firmware
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    longest_wait: float = LONGEST_WAIT
    moments: list[HeatMoment] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    _begun: float = 0.0
    _loaded: float | None = None  # MHz after the first measurement

    def __post_init__(self) -> None:
        self._begun = self.clock()

    def look(self, when: str, loaded: bool = False) -> HeatMoment:
        """Now; `loaded`: cores were busy until now, so that their clock can be compared."""
        mhz, reasons = self._mhz(), list(self._reasons())
        if loaded and mhz is not None:
            self._loaded = self._loaded or mhz
            if mhz < SLOWER * self._loaded:
                reasons.append(f"{mhz:.0f} MHz, {self._loaded:.0f} before")
        moment = HeatMoment(when, self.clock() - self._begun, mhz, self._celsius(), ", ".join(reasons))
        self.moments.append(moment)
        return moment

    def steady(self, what: str, measure: Callable[[], T]) -> T:
        """What `measure` finds; once more, after a wait, where the machine was throttled meanwhile."""
        found = measure()
        said = self.look(what, loaded=True).throttled
        if not said or self.longest_wait <= 0:
            return found
        waited = self.cool_down()
        self.discarded.append(f"{what}: {said}; measured again after {waited:.0f} s")
        found = measure()
        if again := self.look(what, loaded=True).throttled:
            self.discarded[-1] += f", and {again} then too"
        return found

    def cool_down(self) -> float:
        """Wait until neither firmware nor a zone throttles, and for one PAUSE at least; seconds that it took."""
        begun = self.clock()
        while True:
            self.sleep(PAUSE)
            waited = self.clock() - begun
            self.longest_wait -= PAUSE
            if self.longest_wait <= 0 or not list(self._reasons()):
                return waited

    def _mhz(self) -> float | None:
        """The mean over the cores; the firmware's word first, as files may show what was only wished for."""
        if said := re.search(r"=(\d+)", self.ask("measure_clock arm")):
            return int(said[1]) / 1e6
        paths = self.root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        clocks = [value for path in paths if (value := whole_number(read_text(path)))]
        return statistics.mean(clocks) / 1e3 if clocks else None

    def _celsius(self) -> float | None:
        """The hottest of the zones and of the CPU's sensors."""
        paths = [*self.root.glob("sys/class/thermal/thermal_zone*/temp")]
        for folder in self.root.glob("sys/class/hwmon/hwmon*"):
            if read_text(folder / "name") in HOT_SENSORS:
                paths += folder.glob("temp*_input")
        found = [value / 1e3 for path in paths if (value := whole_number(read_text(path)))]
        return max(found, default=None)

    def _reasons(self) -> list[str]:
        found = list[str]()
        if said := re.search(r"=(0x[0-9a-fA-F]+)", self.ask("get_throttled")):
            bits = int(said[1], 16) & LOW_BITS
            found += [name for bit, name in FIRMWARE_SAYS if bits & bit]
        for zone in self.root.glob("sys/class/thermal/thermal_zone*"):
            now = whole_number(read_text(zone / "temp"))
            for kind in zone.glob("trip_point_*_type"):
                limit = whole_number(read_text(kind.with_name(kind.name.replace("_type", "_temp"))))
                if read_text(kind) == "passive" and now and limit and now >= limit:
                    found.append(f"{read_text(zone / 'type') or zone.name} at {now / 1e3:.0f} °C")
        return found
