"""The prefix cache: which beginning of a prompt is kept, in memory or on disk, and putting it into a session's cache.

A timeline is cut into blocks from its first token on; a block's name tells its owner and all tokens up to its end.
When something is kept, and what is best for a prompt, is timelines.py's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moedge.runtime.cache import Cache
from moedge.runtime.cache.cache_blocks import BlockLayout, BlockWriter, CacheBlock
from moedge.runtime.prefixes.block_files import BlockFiles
from moedge.runtime.prefixes.block_memory import BlockMemory
from moedge.runtime.prefixes.counts import PrefixCounts
from moedge.runtime.prefixes.names import block_names, seed_of

# Of a disk that has not been read yet: less than a card of a single-board computer's.
DISK_BYTES_PER_S = 50e6
_TRUST = 0.3  # in a new measurement
CLOSING_SECONDS = 0.5  # for what is still to be written


@dataclass(frozen=True)
class Kept:
    """Of a prompt's first blocks: how many can be gone on from with memory alone, and with the disk.

    `alike`: how many there are in a row, whether or not a run could begin behind them; `disk_bytes`: to be read for
    those of `everywhere`.
    """

    in_memory: int
    everywhere: int
    alike: int
    disk_bytes: int


class PrefixCache:
    """Blocks of the caches of one program, which `identity` tells apart from all others.

    Up to `memory_bytes` in memory, and with a `cache_dir` up to `disk_bytes` there (None: as BlockFiles chooses): what
    is in memory is written.
    MoedgeError if the folder cannot be used.
    """

    def __init__(
        self,
        identity: bytes,
        layout: BlockLayout,
        memory_bytes: int,
        cache_dir: Path | None = None,
        disk_bytes: int | None = None,
    ) -> None:
        self.layout = layout
        self._identity = identity
        self._memory = BlockMemory(memory_bytes)
        self._files = BlockFiles(cache_dir, disk_bytes, self._memory.get) if cache_dir else None
        self._disk_rate = DISK_BYTES_PER_S

    def names(self, owner: str, token_ids: Sequence[int]) -> list[bytes]:
        """Of each whole block of these tokens."""
        return block_names(seed_of(self._identity, owner), token_ids, self.layout.tokens)

    def find(self, names: Sequence[bytes]) -> Kept:
        """What there is of a prompt's blocks."""
        memory, everywhere, nbytes = list[int](), list[int](), [0]
        for name in names:
            here = self._memory.held(name)
            there = self._files.held(name) if self._files else 0
            held = there if there & ~here else here  # one of them is read, not both
            if not held:
                break
            everywhere.append(held)
            nbytes.append(nbytes[-1] + (0 if held == here else self.layout.nbytes(held)))
            if here and len(memory) + 1 == len(everywhere):
                memory.append(here)
        most = self.layout.resumable(everywhere)
        return Kept(self.layout.resumable(memory), most, len(everywhere), nbytes[most])

    def read_seconds(self, nbytes: int) -> float:
        """How long so many bytes take from disk, by what others took."""
        return nbytes / self._disk_rate

    def load(self, names: Sequence[bytes], cache: Cache, disk: bool) -> "Loading":
        """Begin to put these blocks into an empty cache; from memory alone unless from `disk` too."""
        return Loading(self, names, cache, disk)

    def get(self, name: bytes, disk: bool) -> CacheBlock | None:
        """A block, of which the disk's counts if it has more and `disk` says so; None if it is gone."""
        block = self._memory.get(name)
        if not disk or self._files is None or not self._files.held(name) & ~(block.held if block else 0):
            return block
        began = time.perf_counter()
        found = self._files.read(name, self.layout.nbytes)
        if found is None:
            return block
        rate = found.data.nbytes / max(1e-6, time.perf_counter() - began)
        self._disk_rate += _TRUST * (min(rate, 16 * self._disk_rate) - self._disk_rate)
        self._memory.put(name, found)
        return found

    def touch(self, names: Sequence[bytes]) -> None:
        """A timeline's blocks were used now."""
        self._memory.touch(names)

    def lacks(self, name: bytes, cache: Cache, last: int) -> bool:
        """Whether a cache holds all and more of the block that ends before token `last` than is kept in memory."""
        held, kept = self.layout.held(cache, last), self._memory.held(name)
        return held != kept and held & kept == kept

    def keep(self, name: bytes, cache: Cache, last: int) -> None:
        """Copy a cache's block that ends before token `last`, to memory now and to disk later."""
        held = self.layout.held(cache, last)
        self._memory.put(name, self.layout.take(cache, last, held))
        if self._files:
            self._files.write(name, held)

    def blocks_in_budget(self) -> int:
        """About how many blocks memory has room for."""
        return self._memory.budget // max(1, self.layout.nbytes(1))

    @property
    def counts(self) -> PrefixCounts:
        """What is kept; any thread may ask."""
        memory, files = self._memory, self._files
        return PrefixCounts(
            memory_budget_bytes=memory.budget,
            memory_bytes=memory.nbytes,
            memory_blocks=memory.count,
            memory_evictions=memory.evictions,
            disk_budget_bytes=files.budget if files else 0,
            disk_bytes=files.nbytes if files else 0,
            disk_blocks=files.count if files else 0,
            disk_evictions=files.evictions if files else 0,
            disk_rejected=files.rejected if files else 0,
        )

    def close(self) -> None:
        """Write what there is time for, and hold nothing."""
        if self._files:
            self._files.close(CLOSING_SECONDS)
        self._memory.clear()


class Loading:
    """Blocks on their way into an empty cache, a part at a time, so that others need not wait for all of them."""

    def __init__(self, prefixes: PrefixCache, names: Sequence[bytes], cache: Cache, disk: bool) -> None:
        self._prefixes = prefixes
        self._names = names
        self.disk = disk
        self._writer = BlockWriter(cache, prefixes.layout)
        self._next = 0

    def go_on(self, seconds: float) -> bool:
        """Load for about so long; whether that was all."""
        end = time.perf_counter() + seconds
        while self._next < len(self._names) and time.perf_counter() < end:
            block = self._prefixes.get(self._names[self._next], self.disk)
            if block is None:  # it was evicted, or its file is bad: what stands before it is still good
                self._names = self._names[: self._next]
                break
            self._writer.add(block)
            self._next += 1
        return self._next >= len(self._names)

    def finish(self) -> int:
        """How many tokens the cache now holds, which may be fewer than were looked for."""
        self._prefixes.touch(self._names)
        return self._writer.finish()
