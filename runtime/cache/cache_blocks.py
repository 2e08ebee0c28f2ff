"""Blocks: what a cache holds of a fixed number of tokens, in one piece of memory, to be kept when the cache is gone.

Not every length that ends a block can be gone on from: of tensors with a window, and of states, a run reads what stands
shortly before it, which is not always there. Who keeps blocks, and how long, is prefixes/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache.buffer import RowBuffer
from moedge.runtime.cache.cache import Cache


@dataclass(frozen=True)
class BlockGroup:
    """Tensors of which a block holds as much: the last `rows` tokens' rows (0: the states behind the block).

    `reach`: how many blocks before a length a run from there reads, which must all hold them; 0: all. `nbytes` of all
    these tensors together.
    """

    window: int
    rows: int
    reach: int
    nbytes: int


@dataclass(frozen=True)
class CacheBlock:
    """`held`: a bit for each group of the layout, the first one's is 1; `data` [nbytes] of those groups in turn."""

    held: int
    data: NDArray[np.uint8]


@dataclass(frozen=True)
class BlockLayout:
    """What blocks of `tokens` tokens are made of, for all caches of one program."""

    tokens: int
    groups: tuple[BlockGroup, ...]

    @classmethod
    def of(cls, cache: Cache, tokens: int) -> "BlockLayout":
        """For caches like this one."""
        found: dict[int, int] = {}
        for tensor, buffer in cache.rows:
            nbytes = buffer.rows(0, min(tensor.window or tokens, tokens)).nbytes
            found[tensor.window] = found.get(tensor.window, 0) + nbytes
        groups = [
            BlockGroup(window, min(window or tokens, tokens), -(-window // tokens), nbytes)
            for window, nbytes in sorted(found.items())
        ]
        if cache.states:
            groups.append(BlockGroup(0, 0, 1, cache.states.state_bytes))
        return cls(tokens, tuple(groups))

    def nbytes(self, held: int) -> int:
        """Of a block that holds these groups."""
        return sum(group.nbytes for group in self.groups_of(held))

    def groups_of(self, held: int) -> list[BlockGroup]:
        """The groups that it holds."""
        return [group for bit, group in enumerate(self.groups) if held >> bit & 1]

    def resumable(self, helds: Sequence[int]) -> int:
        """The most of a timeline's first blocks, which hold these groups, that end at a length to go on from."""
        runs, best = [0] * len(self.groups), 0  # blocks in a row up to here that hold a group
        for count, held in enumerate(helds, 1):
            for bit in range(len(runs)):
                runs[bit] = runs[bit] + 1 if held >> bit & 1 else 0
            reaches = zip(runs, self.groups, strict=True)
            if all(run >= min(group.reach or count, count) for run, group in reaches):
                best = count
        return best

    def held(self, cache: Cache, last: int) -> int:
        """The groups that a cache holds of the block that ends before token `last`."""
        held = 0
        for bit, group in enumerate(self.groups):
            if not group.rows:
                there = cache.states is not None and cache.states.find(last) is not None
            else:
                there = all(buffer.holds(last - group.rows, last) for buffer in _buffers(cache, group))
            held |= there << bit
        return held

    def take(self, cache: Cache, last: int, held: int) -> CacheBlock:
        """A copy of the groups `held` of the block that ends before token `last`."""
        data = np.empty(self.nbytes(held), np.uint8)
        pieces = _split(data, [view for group in self.groups_of(held) for view in _views(cache, group, last)])
        for piece, view in pieces:
            piece[...] = view
        return CacheBlock(held, data)


class BlockWriter:
    """Fills an empty cache from blocks, one after the other."""

    def __init__(self, cache: Cache, layout: BlockLayout) -> None:
        self._cache = cache
        self._layout = layout
        self._helds: list[int] = []
        self._states = 0, np.empty(0, np.uint8)  # after so many blocks, the newest

    def add(self, block: CacheBlock) -> None:
        """The next one."""
        self._helds.append(block.held)
        count, begin = len(self._helds), 0
        for group in self._layout.groups_of(block.held):
            data = block.data[begin : begin + group.nbytes]
            begin += group.nbytes
            if group.rows:
                for piece, view in _split(data, _views(self._cache, group, count * self._layout.tokens)):
                    view[...] = piece
            else:
                self._states = count, data

    def finish(self) -> int:
        """The tokens that the cache now holds: of all blocks, or of as many as end at a length to go on from."""
        count, states = self._layout.resumable(self._helds), self._cache.states
        if not count or (states and count != self._states[0]):
            return 0
        length = count * self._layout.tokens
        for bit, group in enumerate(self._layout.groups):
            for buffer in _buffers(self._cache, group) if group.rows else ():
                buffer.begin(self._begun(bit, count), length)
        if states:
            for piece, view in _split(self._states[1], states.begin(length)):
                view[...] = piece
        self._cache.trim(length)
        return length

    def _begun(self, bit: int, count: int) -> int:
        """The token from which on rows of a group are there without a gap."""
        tokens, rows = self._layout.tokens, self._layout.groups[bit].rows
        first = count
        while first and self._helds[first - 1] >> bit & 1 and (rows == tokens or first == count):
            first -= 1
        return first * tokens if rows == tokens else count * tokens - rows


def _buffers(cache: Cache, group: BlockGroup) -> list[RowBuffer]:
    return [buffer for tensor, buffer in cache.rows if tensor.window == group.window]


def _views(cache: Cache, group: BlockGroup, last: int) -> list[NDArray[Any]]:
    """Of each tensor of a group what a block that ends before token `last` has of it."""
    if group.rows:
        return [buffer.rows(last - group.rows, last) for buffer in _buffers(cache, group)]
    states = cache.states.find(last) if cache.states else None
    return states or []


def _split(data: NDArray[np.uint8], views: Sequence[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """A piece of the memory for each view, of its shape and numbers, and the view."""
    begin = 0
    for view in views:
        end = begin + view.nbytes
        yield data[begin:end].view(view.dtype).reshape(view.shape), view
        begin = end
