"""What a container or service manager lets this process use: CPU time and memory, from control groups v1 and v2.

A limit may stand at any level above the process, so all levels that are visible are read and the tightest one holds.
Which CPUs the process may run on is not here: the scheduler tells that itself (see detect.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from moedge.devices.kernel_files import read_text, whole_number

MOST_LEVELS = 64
NO_LIMIT = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page in 63 bits


@dataclass(frozen=True)
class ContainerLimits:
    """CPU time in CPUs (1.5: one and a half) and memory in bytes; None where nothing limits."""

    cpus: float | None
    memory_bytes: int | None


def container_limits(root: Path) -> ContainerLimits:
    """The limits of this process as the files under `root` (normally `/`) tell them."""
    cpus: list[float] = []
    memory: list[int] = []
    for controllers, group in _groups(read_text(root / "proc/self/cgroup")):
        for folder in _levels(root / "sys/fs/cgroup", controllers, group):
            cpus += [*_quota_v2(folder), *_quota_v1(folder)]
            memory += _memory_limits(folder)
    return ContainerLimits(min(cpus, default=None), min(memory, default=None))


def container_free_bytes(root: Path) -> int | None:
    """What the tightest memory limit leaves now, file pages that the kernel can drop included; None without a limit."""
    free = []
    for controllers, group in _groups(read_text(root / "proc/self/cgroup")):
        for folder in _levels(root / "sys/fs/cgroup", controllers, group):
            used = [whole_number(read_text(folder / name)) for name in ("memory.current", "memory.usage_in_bytes")]
            taken = max((count for count in used if count is not None), default=0) - _droppable(folder)
            free += [max(0, limit - max(0, taken)) for limit in _memory_limits(folder)]
    return min(free, default=None)


def _memory_limits(folder: Path) -> list[int]:
    limits = [whole_number(read_text(folder / name)) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    return [limit for limit in limits if limit and limit < NO_LIMIT]


def _droppable(folder: Path) -> int:
    """File pages of a group and those below it, as MemAvailable counts them: version 1 calls their sums `total_`."""
    stat = dict(line.split(" ", 1) for line in read_text(folder / "memory.stat").splitlines() if " " in line)
    names = ("inactive_file", "active_file")
    return sum(whole_number(stat.get(f"total_{name}", stat.get(name, ""))) or 0 for name in names)


def _groups(text: str) -> Iterator[tuple[str, PurePosixPath]]:
    """Controllers ("" in version 2) and group of each line of /proc/self/cgroup; the top level if there is no line."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    for fields in [fields for fields in lines if len(fields) == 3] or [["0", "", "/"]]:
        yield fields[1], PurePosixPath(fields[2])


def _levels(mount: Path, controllers: str, group: PurePosixPath) -> Iterator[Path]:
    # The hierarchy is mounted at the top (v2), at `unified` (v2 beside v1) or under its controllers' names (v1).
    names = {controllers, *controllers.split(",")} if controllers else {"", "unified"}
    parts = [part for part in group.parts if part != "/"]
    if ".." in parts:  # a group outside this namespace: only the mounted top is ours
        parts = []
    for name in sorted(names):
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            continue
        for depth in range(min(len(parts), MOST_LEVELS), -1, -1):
            yield mount.joinpath(name, *parts[:depth])


def _quota_v2(folder: Path) -> list[float]:
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    return _ratio(quota, period or "100000")


def _quota_v1(folder: Path) -> list[float]:
    return _ratio(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> list[float]:
    used, whole = whole_number(quota), whole_number(period)  # "max" and "-1" are no whole numbers: no limit
    return [used / whole] if used and whole else []
