"""What this machine says of itself for /metrics: clocks, temperatures, page faults, by OpenTelemetry's names.

Only files of the kernel are read, which takes well below a millisecond; what a machine does not tell is left out.
"""

import resource
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from moedge.devices.kernel_files import read_text, whole_number

MOST_CORES = 64  # whose clocks are told


class HardwareCollector(Collector):
    """Reads at each scrape. Every path hangs from `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._build = InfoMetricFamily("moedge_build", "The version of moedge.", {"version": version("moedge")})

    def collect(self) -> Iterator[Metric]:
        """Read all of it."""
        yield self._build
        usage = resource.getrusage(resource.RUSAGE_SELF)
        faults = CounterMetricFamily(
            "process_paging_faults",
            "Pages that were not in memory when they were used: major ones were read from storage.",
            labels=("system_paging_fault_type",),
        )
        faults.add_metric(("major",), usage.ru_majflt)
        faults.add_metric(("minor",), usage.ru_minflt)
        yield faults
        clocks = GaugeMetricFamily(
            "system_cpu_frequency_hertz", "The clock of each core now.", labels=("cpu_logical_number",)
        )
        for number in range(MOST_CORES):
            folder = self._root / f"sys/devices/system/cpu/cpu{number}"
            kilohertz = whole_number(read_text(folder / "cpufreq/scaling_cur_freq"))
            if kilohertz:
                clocks.add_metric((str(number),), kilohertz * 1e3)
            elif not folder.exists():
                break
        temperatures = GaugeMetricFamily(
            "hw_temperature_celsius", "Of each thermal zone and sensor of the processor.", labels=("hw_id", "name")
        )
        for identifier, name, millidegrees in self._temperatures():
            temperatures.add_metric((identifier, name), millidegrees / 1e3)
        yield from (family for family in (clocks, temperatures) if family.samples)

    def _temperatures(self) -> Iterator[tuple[str, str, int]]:
        """Identifier, name and 1/1000 °C."""
        for zone in sorted(self._root.glob("sys/class/thermal/thermal_zone*")):
            if (value := whole_number(read_text(zone / "temp"))) is not None:
                yield zone.name, read_text(zone / "type") or zone.name, value
        for folder in sorted(self._root.glob("sys/class/hwmon/hwmon*")):
            name = read_text(folder / "name")
            if name not in ("coretemp", "k10temp", "cpu_thermal", "zenpower"):
                continue
            for path in sorted(folder.glob("temp*_input")):
                if (value := whole_number(read_text(path))) is not None:
                    yield f"{folder.name}/{path.name.removesuffix('_input')}", name, value
