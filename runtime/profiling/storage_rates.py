"""How fast storage reads: pieces of several sizes at random places of a file, one or several of them at once.

The file lies in the folder that is given and has no name once it is open: whatever ends the program, nothing is left.
What the system keeps in memory would be measured as storage, so reads go around it, or it is asked to forget; where it
does neither, nothing is measured.
"""

import mmap
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moedge.runtime.bench.process_usage import storage_bytes
from moedge.runtime.profiling.drawn_weights import Drawing
from moedge.runtime.profiling.timing import Measured

BLOCKS = (4 << 10, 128 << 10, 1 << 20, 4 << 20)
QUEUES = (1, 4, 16)  # reads at once
EXPERT_BLOCK, EXPERT_QUEUE = 1 << 20, 4  # about how experts are read that memory does not hold
MOST_BYTES, LEAST_BYTES = 1 << 30, 32 << 20
PIECE = 8 << 20  # that is written at once
ROUNDS = 3


@dataclass(frozen=True)
class StorageRate:
    """Bytes a second with reads of `block` bytes, `queue` at once."""

    block: int
    queue: int
    bytes_per_s: Measured


@dataclass(frozen=True)
class StorageRates:
    """All points; none, and why."""

    points: tuple[StorageRate, ...]
    file_bytes: int
    note: str  # how it was read, or "not measured: ..."

    @property
    def of_experts(self) -> Measured | None:
        """As experts are read."""
        found = [p for p in self.points if (p.block, p.queue) == (EXPERT_BLOCK, EXPERT_QUEUE)]
        return found[0].bytes_per_s if found else None


def measure_storage(folder: Path, drawing: Drawing, seconds: float) -> StorageRates:
    """In the folder's file system; a third of the time, at most, is spent on writing the file."""
    free = shutil.disk_usage(folder).free
    most = min(MOST_BYTES, free // 10)
    if most < LEAST_BYTES:
        return StorageRates((), 0, f"not measured: {free >> 20} MiB are free, too few for a file to read")
    path = folder / f".moedge-profile-{os.getpid()}"
    handles = list[int]()
    try:
        try:
            handles.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            direct = _open_direct(path)
        finally:
            path.unlink(missing_ok=True)
        handles += [] if direct is None else [direct]
        size = _write(handles[0], drawing, most, seconds / 3)
        return _read_all(handles[0], direct, size, 2 * seconds / 3)
    except OSError as error:
        return StorageRates((), 0, f"not measured: {error.strerror or error}")
    finally:
        for handle in handles:
            os.close(handle)


def _open_direct(path: Path) -> int | None:
    """For reads that go around the system's memory; None where there are none."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None


def _write(handle: int, drawing: Drawing, most: int, seconds: float) -> int:
    """Bytes that no file system can make smaller, for so long or until there are enough."""
    end, size = time.monotonic() + seconds, 0
    while size < LEAST_BYTES or (size < most and time.monotonic() < end):
        os.write(handle, drawing.codes((PIECE,)).data)
        size += PIECE
        os.fsync(handle)
    return os.fstat(handle).st_size // max(BLOCKS) * max(BLOCKS)


def _read_all(plain: int, direct: int | None, size: int, seconds: float) -> StorageRates:
    handle = plain if direct is None else direct
    if direct is None and not hasattr(os, "posix_fadvise"):
        return StorageRates((), 0, "not measured: this system keeps what was read in memory")
    rng, points = np.random.default_rng(0), list[StorageRate]()
    each = seconds / (len(BLOCKS) * len(QUEUES) * ROUNDS)
    before, read = storage_bytes(), 0
    for queue in QUEUES:
        with ThreadPoolExecutor(queue) as pool:
            for block in BLOCKS:
                rates = []
                for _ in range(ROUNDS):
                    if direct is None:
                        os.posix_fadvise(plain, 0, 0, os.POSIX_FADV_DONTNEED)
                    begun = time.perf_counter()
                    seeds = rng.integers(0, 1 << 62, queue).tolist()
                    done = sum(pool.map(lambda seed, block=block: _read(handle, block, size, seed, each), seeds))
                    read += done
                    rates.append(done / (time.perf_counter() - begun))
                points.append(StorageRate(block, queue, Measured.of(rates)))
    after = storage_bytes()
    if before is not None and after is not None and after - before < read / 2:
        return StorageRates((), 0, "not measured: the folder lies in memory, or its storage is kept there")
    how = "read past the system's memory (O_DIRECT)" if direct is not None else "after the system forgot the file"
    return StorageRates(tuple(points), size, how)


def _read(handle: int, block: int, size: int, seed: int, seconds: float) -> int:
    """Bytes that one reader read in that time, at random places; one block at least."""
    rng, end, done = np.random.default_rng(seed), time.perf_counter() + seconds, 0
    with mmap.mmap(-1, block) as room:  # memory that begins at a page, as reading past the system asks for
        while done == 0 or time.perf_counter() < end:
            at = int(rng.integers(0, size // block)) * block
            done += os.preadv(handle, [room], at)
    return done
