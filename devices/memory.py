"""How much memory this machine, or the container this process runs in, has, and how much of it is free right now.

Read from /proc/meminfo and control groups; like detect.py, every path hangs from `root`, so that tests can show it
another machine.
"""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from moedge.devices.container import container_free_bytes, container_limits
from moedge.devices.kernel_files import read_text, whole_number


@dataclass(frozen=True)
class Memory:
    """Bytes: what this process may use at most, and what it could get now without anybody being swapped or ended."""

    usable_bytes: int  # the smaller of built in and the container's limit
    available_bytes: int


def detect_memory(root: Path = Path("/")) -> Memory:
    """The memory of the machine whose /proc and /sys lie under `root`."""
    free = _meminfo(root, "MemAvailable")
    available = [int(psutil.virtual_memory().available) if free is None else free]
    limits = [built_in_bytes(root), container_limits(root).memory_bytes]
    usable = min(limit for limit in limits if limit is not None)
    available += [free for free in (container_free_bytes(root), usable) if free is not None]
    return Memory(usable, min(available))


def resident_bytes() -> int:
    """What of this process is in memory now."""
    return int(psutil.Process().memory_info().rss)


def return_freed_memory() -> None:
    """Give the system back what this process has freed and its C library keeps; elsewhere than on glibc, nothing."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # see malloc_trim(3)
        trim(0)


def built_in_bytes(root: Path) -> int:
    """All memory of the machine."""
    return _meminfo(root, "MemTotal") or int(psutil.virtual_memory().total)


def _meminfo(root: Path, wanted: str) -> int | None:
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        kibibytes = whole_number(value.removesuffix("kB"))
        if name == wanted and kibibytes:
            return kibibytes * 1024
    return None
