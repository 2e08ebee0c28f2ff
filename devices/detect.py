"""What the machine at hand is: architecture, instruction set, usable cores and memory, limits of its container.

It reads /proc, /sys and the scheduler, never runs anything and never measures. What a profile makes of it is in
profile.py. Every path hangs from `root`, so that tests can show it another machine.
"""

import mmap
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from moedge.devices.container import container_limits
from moedge.devices.cores import Cluster, CpuInfo, clusters_of, fast_of, find_cores, name_of
from moedge.devices.kernel_files import read_text
from moedge.devices.memory import built_in_bytes

# Only what some CPU kernel chooses by, in the kernel's own spelling, oldest first.
ISA_FLAGS = {
    "x86_64": (
        *("sse4_1", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
        *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    ),
    "aarch64": ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme"),
}
ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}  # other systems' names for the same


@dataclass(frozen=True)
class Machine:
    """What was found. Counts are of what this process may use; `memory_bytes` is all that is built in."""

    architecture: str  # "x86_64", "aarch64", or what the system calls it
    cpu: str  # "" if nothing tells
    board: str  # what firmware calls it: "Raspberry Pi 5 Model B Rev 1.0"; "" if nothing tells
    isa: tuple[str, ...]
    logical_cpus: int
    cores: int  # physical, after affinity and CPU quota
    fast_cores: int  # those of `cores` with at least half the capacity of the fastest
    cpu_quota: float | None  # in CPUs
    memory_bytes: int
    memory_limit_bytes: int | None
    clusters: tuple[Cluster, ...] = ()  # of the cores that the process may run on, whatever its quota
    fast_cpus: tuple[int, ...] = ()  # a logical CPU for each fast core
    page_bytes: int = 4096
    compatible: str = ""  # the same for drivers: "raspberrypi,5-model-b brcm,bcm2712"
    system: str = "Linux"  # as platform.system() calls it

    @property
    def usable_memory_bytes(self) -> int:
        """The smaller of the built-in memory and the container's limit."""
        return min(self.memory_bytes, self.memory_limit_bytes or self.memory_bytes)


def detect(root: Path = Path("/"), architecture: str | None = None, affinity: frozenset[int] | None = None) -> Machine:
    """Describe the machine whose /proc and /sys lie under `root`; the rest is asked of the running system."""
    named = (architecture or platform.machine()).lower()
    named = ARCHITECTURES.get(named, named)
    blocks = _cpuinfo(read_text(root / "proc/cpuinfo"))
    cpus = sorted(_read_affinity() if affinity is None else affinity) or [0]
    limits = container_limits(root)
    cores = find_cores(root, cpus, blocks)
    fast = fast_of(cores)
    allowed = len(cores) if limits.cpus is None else max(1, min(len(cores), int(limits.cpus)))
    return Machine(
        architecture=named,
        cpu=_cpu_name(blocks),
        board=read_text(root / "proc/device-tree/model"),
        isa=_isa(blocks, ISA_FLAGS.get(named, ())),
        logical_cpus=len(cpus),
        cores=allowed,
        fast_cores=min(allowed, len(fast)),
        cpu_quota=limits.cpus,
        memory_bytes=built_in_bytes(root),
        memory_limit_bytes=limits.memory_bytes,
        clusters=clusters_of(cores),
        fast_cpus=tuple(core.cpu for core in fast),
        page_bytes=mmap.PAGESIZE,
        compatible=read_text(root / "proc/device-tree/compatible").replace("\0", " "),
        system=platform.system(),
    )


def _read_affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(psutil.cpu_count(logical=False) or os.cpu_count() or 1))  # not Linux: cores, untangled


def _cpuinfo(text: str) -> list[dict[str, str]]:
    """One dictionary a processor of /proc/cpuinfo; names in lower case."""
    blocks: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if name == "processor" and blocks[-1]:
            blocks.append({})
        if name:
            blocks[-1][name] = value.strip()
    return [block for block in blocks if "processor" in block]


def _cpu_name(blocks: Sequence[CpuInfo]) -> str:
    names = map(name_of, blocks)
    return " + ".join(dict.fromkeys(name for name in names if name))


def _isa(blocks: Sequence[CpuInfo], known: tuple[str, ...]) -> tuple[str, ...]:
    # What every CPU has: a thread may land on any of them.
    each = [set((block.get("flags") or block.get("features") or "").split()) for block in blocks]
    common = set.intersection(*each) if each else set()
    return tuple(flag for flag in known if flag in common)
