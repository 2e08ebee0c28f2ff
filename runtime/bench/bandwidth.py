"""How fast this machine reads memory, measured there and then: several threads over more than the CPU's caches hold."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.devices.kernel_files import read_text, whole_number
from moedge.runtime.bench.spread import Spread
from moedge.runtime.kernels.library import open_library

MOST_BYTES = 512 << 20
TIMES_CACHES = 4  # so large that little of it is still there a pass later
PASSES = 8
LINE = 128  # bytes: where parts of the buffer begin


@dataclass(frozen=True)
class Bandwidth:
    """Bytes/s of plain reading with as many threads as the engine has, over `buffer_bytes` of memory.

    `note` if the machine's may be more or less.
    """

    bytes_per_s: Spread
    threads: int
    buffer_bytes: int
    note: str = ""


def choose_buffer(available: int, caches: int) -> int:
    """How many bytes to read where so many are free and the CPU's last caches hold so many."""
    return max(min(MOST_BYTES, available // 4), min(TIMES_CACHES * caches, available // 2))


def last_cache_bytes(root: Path = Path("/")) -> int:
    """Of the CPU's last level of caches, all of them together; 0 where the system does not tell."""
    levels: dict[int, dict[str, int]] = {}
    for folder in root.glob("sys/devices/system/cpu/cpu*/cache/index*"):
        level = whole_number(read_text(folder / "level"))
        kibibytes = whole_number(read_text(folder / "size").removesuffix("K"))
        if level and kibibytes:
            levels.setdefault(level, {})[read_text(folder / "shared_cpu_list")] = kibibytes << 10
    return sum(levels[max(levels)].values()) if levels else 0


def measure_bandwidth(threads: int, buffer_bytes: int, caches: int, passes: int = PASSES) -> Bandwidth:
    """Read a buffer `passes` times, after one that warms up; `caches` are what the CPU's last ones hold."""
    read, note = _reader()
    if buffer_bytes < TIMES_CACHES * caches:
        few = f"memory was short, of what was read the CPU's caches hold {caches / buffer_bytes:.0%}"
        note = f"{note}; {few}" if note else few
    words = np.ones(buffer_bytes // 8, np.uint64)  # written, so that its pages are there
    size = len(words) * 8 // threads // LINE * LINE // 8
    parts = [words[at * size : (at + 1) * size] for at in range(threads)]
    rates = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(passes + 1):
            begun = time.perf_counter()
            list(pool.map(read, parts))
            rates.append(threads * size * 8 / (time.perf_counter() - begun))
    return Bandwidth(Spread.of(rates[1:]), threads, threads * size * 8, note)


def _reader() -> tuple[Callable[[NDArray[np.uint64]], object], str]:
    """Reads one part, without Python's lock; moedge's own, or numpy's, which is slower."""
    try:
        return open_library().read, ""
    except MoedgeError:
        return np.sum, "read by numpy, as moedge's kernels are missing: the machine may be faster"
