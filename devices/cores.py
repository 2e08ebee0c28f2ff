"""Cores of a machine: one logical CPU for each, their kinds, clocks and names, which of them are fast.

Like detect.py, of which it is a part, it reads /proc and /sys below `root` only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.kernel_files import cpu_list, read_text, whole_number

# Implementer and part of /proc/cpuinfo to a name. Parts of ARM's own: the CPU's technical reference manuals, MIDR_EL1.
ARM, QUALCOMM, APPLE = "0x41", "0x51", "0x61"
PARTS = {
    (ARM, "0xd03"): "Cortex-A53",
    (ARM, "0xd05"): "Cortex-A55",
    (ARM, "0xd08"): "Cortex-A72",
    (ARM, "0xd09"): "Cortex-A73",
    (ARM, "0xd0b"): "Cortex-A76",
    (ARM, "0xd0c"): "Neoverse-N1",
    (ARM, "0xd40"): "Neoverse-V1",
    (ARM, "0xd41"): "Cortex-A78",
    (ARM, "0xd42"): "Cortex-A78AE",
    (ARM, "0xd44"): "Cortex-X1",
    (ARM, "0xd46"): "Cortex-A510",
    (ARM, "0xd47"): "Cortex-A710",
    (ARM, "0xd48"): "Cortex-X2",
    (ARM, "0xd49"): "Neoverse-N2",
    (ARM, "0xd4d"): "Cortex-A715",
    (ARM, "0xd4e"): "Cortex-X3",
    (ARM, "0xd4f"): "Neoverse-V2",
    (ARM, "0xd80"): "Cortex-A520",
    (ARM, "0xd81"): "Cortex-A720",
    (ARM, "0xd82"): "Cortex-X4",
    (QUALCOMM, "0x001"): "Oryon",
}
VENDORS = {APPLE: "Apple", QUALCOMM: "Qualcomm"}  # where the part says nothing

CpuInfo = Mapping[str, str]  # one processor's lines of /proc/cpuinfo


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind."""

    core: str  # "Cortex-A76"; "" if nothing tells
    count: int
    mhz: int  # at most; 0 if nothing tells


@dataclass(frozen=True)
class Core:
    """A physical core, by the first of its logical CPUs that may be used."""

    cpu: int
    name: str
    mhz: int
    capacity: int  # of the fastest, 1024; 0 if nothing tells


def find_cores(root: Path, cpus: Sequence[int], blocks: Sequence[CpuInfo]) -> list[Core]:
    """The cores of these logical CPUs, in their order."""
    said = {whole_number(block["processor"]): block for block in blocks}
    first_of: dict[object, int] = {}
    for cpu in cpus:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = cpu_list(read_text(topology / "core_cpus_list") or read_text(topology / "thread_siblings_list"))
        block = said.get(cpu, {})
        place = (block.get("physical id"), block.get("core id"))
        first_of.setdefault(siblings or (place if place[1] else cpu), cpu)
    return [_core(root / f"sys/devices/system/cpu/cpu{cpu}", cpu, said.get(cpu, {})) for cpu in first_of.values()]


def fast_of(cores: Sequence[Core]) -> list[Core]:
    """Those with at least half the capacity of the fastest: one slow core makes all others wait at an operator's end.

    Where no capacities are told, clocks are compared.
    """
    speeds = [core.capacity or core.mhz for core in cores]
    return [core for core, speed in zip(cores, speeds, strict=True) if 2 * speed >= max(speeds)]


def clusters_of(cores: Sequence[Core]) -> tuple[Cluster, ...]:
    """The kinds of cores, the fastest first."""
    kinds: dict[tuple[str, int, int], int] = {}
    for core in cores:
        kind = (core.name, core.mhz, core.capacity)
        kinds[kind] = kinds.get(kind, 0) + 1
    ordered = sorted(kinds.items(), key=lambda entry: (entry[0][2], entry[0][1]), reverse=True)
    return tuple(Cluster(name, count, mhz) for (name, mhz, _), count in ordered)


def name_of(block: CpuInfo) -> str:
    """What a processor is called."""
    if name := block.get("model name"):
        return name
    implementer = block.get("cpu implementer", ARM).lower()
    return PARTS.get((implementer, block.get("cpu part", "").lower()), VENDORS.get(implementer, ""))


def _core(folder: Path, cpu: int, block: CpuInfo) -> Core:
    kilohertz = whole_number(read_text(folder / "cpufreq/cpuinfo_max_freq")) or 0
    now = whole_number(block.get("cpu mhz", "").partition(".")[0]) or 0  # all that virtual machines tell
    capacity = whole_number(read_text(folder / "cpu_capacity")) or 0
    return Core(cpu, name_of(block), kilohertz // 1000 or now, capacity)
