"""What tells energy on this machine: RAPL, a Jetson's INA3221, hwmon sensors, a Raspberry Pi 5's PMIC, a battery.

A reader is asked for joules that were counted so far, or for watts now. Every path hangs from `root`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from moedge.devices.kernel_files import read_text, whole_number
from moedge.runtime.profiling.firmware import AskFirmware, ask_firmware

MODULE_RAIL = "VDD_IN"  # of a Jetson: the whole module, which the other rails are parts of
RAIL = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]", re.MULTILINE)


class WattReader(Protocol):
    """Tells power now."""

    source: str

    def watts(self) -> float | None:
        """Now; None if it cannot be read any more."""
        ...


class JouleReader(Protocol):
    """Counts energy."""

    source: str

    def joules(self) -> float | None:
        """Since some moment in the past; None if it cannot be read any more."""
        ...


@dataclass(eq=False)
class Rapl:
    """The packages' counters, which begin again at their range; ask before any of them has gone round twice."""

    packages: list[Path]
    source: str = "RAPL"
    _before: dict[Path, int] = field(default_factory=dict)
    _total: int = 0  # microjoules

    def joules(self) -> float | None:
        """Of all packages since the first call."""
        for package in self.packages:
            now = whole_number(read_text(package / "energy_uj"))
            if now is None:
                return None
            grown = now - self._before.get(package, now)
            if grown < 0:
                grown += whole_number(read_text(package / "max_energy_range_uj")) or 0
            self._before[package] = now
            self._total += max(0, grown)
        return self._total / 1e6


@dataclass(eq=False)
class Jetson:
    """Millivolts times milliamperes of the module's rail."""

    folder: Path
    channel: str
    source: str = f"INA3221, {MODULE_RAIL}: the whole module"

    def watts(self) -> float | None:
        """Of the module."""
        volts = whole_number(read_text(self.folder / f"in{self.channel}_input"))
        amperes = whole_number(read_text(self.folder / f"curr{self.channel}_input"))
        return None if volts is None or amperes is None else volts * amperes / 1e6


@dataclass(eq=False)
class PowerSensor:
    """A hwmon file of microwatts."""

    path: Path
    source: str

    def watts(self) -> float | None:
        """As the file says."""
        found = whole_number(read_text(self.path))
        return None if found is None else found / 1e6


@dataclass(eq=False)
class Pmic:
    """The rails of a Raspberry Pi 5 that tell both volts and amperes. USB is not among them."""

    ask: AskFirmware
    source: str = "PMIC of the Raspberry Pi 5, sum of its rails"

    def watts(self) -> float | None:
        """Of all rails together."""
        return rails_watts(self.ask("pmic_read_adc"))


@dataclass(eq=False)
class Battery:
    """What is drawn from a battery while nothing charges it."""

    folder: Path
    source: str = "battery: the whole machine"

    def watts(self) -> float | None:
        """None while it is charged."""
        if read_text(self.folder / "status") != "Discharging":
            return None
        power = _signed(read_text(self.folder / "power_now"))
        if power is not None:
            return power / 1e6
        parts = [_signed(read_text(self.folder / f"{name}_now")) for name in ("current", "voltage")]
        return None if parts[0] is None or parts[1] is None else parts[0] * parts[1] / 1e12


def rails_watts(text: str) -> float | None:
    """Volts times amperes of what `vcgencmd pmic_read_adc` prints, of rails that have both; None if there is none."""
    rails: dict[str, dict[str, float]] = {}
    for name, kind, value in RAIL.findall(text):
        rails.setdefault(name, {})[kind] = float(value)
    both = [rail["A"] * rail["V"] for rail in rails.values() if len(rail) == 2]
    return sum(both) if both else None


def find_reader(root: Path = Path("/"), ask: AskFirmware = ask_firmware) -> tuple[JouleReader | WattReader | None, str]:
    """The best there is, or None and why there is none."""
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]*"))
    packages = [zone for zone in zones if read_text(zone / "name").startswith("package")]
    locked = [zone for zone in packages if not read_text(zone / "energy_uj")]
    if packages and not locked:
        return Rapl(packages), ""
    why = f"RAPL is there but {locked[0] / 'energy_uj'} can only be read by root" if locked else ""
    for found in (_jetson(root), _sensor(root), Pmic(ask), _battery(root)):
        if found is not None and found.watts() is not None:
            return found, ""
    return None, why or "no RAPL, power sensor, PMIC or discharging battery was found"


def _jetson(root: Path) -> Jetson | None:
    for label in root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"):
        if read_text(label) == MODULE_RAIL:
            return Jetson(label.parent, label.name.removeprefix("in").removesuffix("_label"))
    return None


def _sensor(root: Path) -> PowerSensor | None:
    """An average before a moment."""
    for kind in ("average", "input"):
        for path in sorted(root.glob(f"sys/class/hwmon/hwmon*/power*_{kind}")):
            name = read_text(path.parent / "name") or path.parent.name
            return PowerSensor(path, f"hwmon sensor {name}, {path.name}")
    return None


def _battery(root: Path) -> Battery | None:
    for folder in sorted(root.glob("sys/class/power_supply/*")):
        if read_text(folder / "type") == "Battery" or read_text(folder / "status"):
            return Battery(folder)
    return None


def _signed(text: str) -> int | None:
    """Some firmware counts what leaves a battery below zero."""
    return whole_number(text.removeprefix("-"))
