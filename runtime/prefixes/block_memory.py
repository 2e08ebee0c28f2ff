"""Blocks in memory, by name, within a budget: what was used least recently goes first."""

from collections import OrderedDict
from collections.abc import Sequence

from moedge.runtime.cache.cache_blocks import CacheBlock


class BlockMemory:
    """Up to `budget` bytes of blocks. One thread puts and touches; any may `get`."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self.evictions = 0
        self._blocks = OrderedDict[bytes, CacheBlock]()  # least recently used first

    @property
    def count(self) -> int:
        """Blocks that are held."""
        return len(self._blocks)

    def get(self, name: bytes) -> CacheBlock | None:
        """The block, if it is held."""
        return self._blocks.get(name)

    def held(self, name: bytes) -> int:
        """The groups that the block has here; 0: it is not held."""
        block = self._blocks.get(name)
        return block.held if block else 0

    def put(self, name: bytes, block: CacheBlock) -> None:
        """Hold a block, in the place of one that had less; nothing if it alone exceeds the budget."""
        if block.data.nbytes > self.budget:
            return
        before = self._blocks.pop(name, None)
        self.nbytes += block.data.nbytes - (before.data.nbytes if before else 0)
        self._blocks[name] = block
        while self.nbytes > self.budget:
            _, gone = self._blocks.popitem(last=False)
            self.nbytes -= gone.data.nbytes
            self.evictions += 1

    def touch(self, names: Sequence[bytes]) -> None:
        """A timeline's blocks, in their order, were used: its end goes before its beginning, without which it is
        nothing.
        """
        for name in reversed(names):
            if name in self._blocks:
                self._blocks.move_to_end(name)

    def clear(self) -> None:
        """Hold nothing."""
        self._blocks.clear()
        self.nbytes = 0
