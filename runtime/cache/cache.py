"""The cache of one timeline: one buffer a tensor, reserved for the whole context, resident only as far as it is used.

It gives every tensor the buffer of its layout and treats them alike. What the rows mean is the graph's business, which
tokens they hold is the session's.
"""

import weakref
from collections.abc import Iterable

from moedge.devices.profile_file import CacheType
from moedge.runtime.cache.arena import Arena
from moedge.runtime.cache.buffer import Binding, Buffer, RowBuffer
from moedge.runtime.cache.native_buffer import NativeBuffer
from moedge.runtime.cache.reservation import NoRoom
from moedge.runtime.cache.rows import RowsBuffer
from moedge.runtime.cache.shared import SharedBuffer
from moedge.runtime.cache.states import StatesBuffer
from moedge.runtime.cache.window import WindowBuffer
from moedge.runtime.manifest import CacheTensor


def open_buffer(tensor: CacheTensor, capacity: int, arena: Arena, slot: int) -> RowBuffer:
    """Memory for a tensor of up to `capacity` tokens: a slot of an arena, or where the layout has none its own.

    NoRoom if there is none.
    """
    return arena.buffer(tensor, slot) if tensor.layout == "native" else _fp32_layout(tensor)(tensor, capacity)


def cache_nbytes(tensors: Iterable[CacheTensor], length: int, wish: CacheType) -> int:
    """Bytes of memory that the first `length` tokens of one timeline take over all tensors."""
    tensors = [*tensors]
    rows = sum(
        NativeBuffer.nbytes(tensor, length, wish)
        if tensor.layout == "native"
        else _fp32_layout(tensor).nbytes(tensor, length)
        for tensor in tensors
        if not tensor.is_state
    )
    return rows + StatesBuffer.nbytes(tensors)


def _fp32_layout(tensor: CacheTensor) -> type[SharedBuffer | WindowBuffer | RowsBuffer]:
    """A window makes a kind of its own of the rows."""
    if tensor.layout == "shared":
        return SharedBuffer
    return WindowBuffer if tensor.window else RowsBuffer


class Cache:
    """Buffers for up to `capacity` tokens of one timeline; `wish` is what numbers they hold where there is a choice.

    They lie in a `slot` of the `arena`, or of one that nobody else has; once the cache is closed, or dropped, the slot
    is free. `rows` and `states` are what of it is copied elsewhere (cache_blocks.py).
    NoRoom if there is no slot, or no memory.
    """

    def __init__(
        self, tensors: tuple[CacheTensor, ...], capacity: int, wish: CacheType, arena: Arena | None = None
    ) -> None:
        self.capacity = capacity
        self.arena = Arena(tensors, capacity, wish, 1) if arena is None else arena
        slot = self.arena.take()
        if slot is None:
            raise NoRoom("all slots of these caches are taken: close a session first.")
        self.slot = slot
        self._give_back = weakref.finalize(self, self.arena.put_back, slot)
        self._give_back.atexit = False
        self._tensors = tensors
        self._wish = wish
        rows = [tensor for tensor in tensors if not tensor.is_state]
        self.rows: list[tuple[CacheTensor, RowBuffer]] = [
            (tensor, open_buffer(tensor, capacity, self.arena, slot)) for tensor in rows
        ]
        self.states = self.arena.states(slot)
        self._buffers: list[Buffer] = [buffer for _, buffer in self.rows]
        if self.states:
            self._buffers.append(self.states)
        self._moving = [buffer for buffer in self._buffers if buffer.moves]
        self._bound: Binding | None = None

    def close(self) -> None:
        """Give the slot back: nothing may be run with this cache from now on. A second call does nothing."""
        self._give_back()

    def turn(self, past: int, new: int) -> tuple[int, int]:
        """The states that a run of `new` tokens after `past` reads and writes, where there are any."""
        return self.states.turn(past, new) if self.states else (0, 0)

    @property
    def has_states(self) -> bool:
        """Whether it can be rolled back to some lengths only."""
        return self.states is not None

    def nbytes(self, length: int) -> int:
        """Bytes of memory that the first `length` tokens take over all tensors."""
        return cache_nbytes(self._tensors, length, self._wish)

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """Bind what the graph reads of the `past` tokens and where it writes for the `new` ones, all in place.

        What is the same at each step is bound once for each binding that a session goes on to use.
        """
        for buffer in self._moving if binding is self._bound else self._buffers:
            buffer.bind(binding, past, new)
        self._bound = binding

    def reachable(self, length: int) -> int:
        """The longest length up to `length` that every buffer can be rolled back to."""
        while (nearest := min((buffer.reachable(length) for buffer in self._buffers), default=length)) < length:
            length = nearest  # what is nearest for one may be out of reach of another
        return length

    def trim(self, length: int) -> None:
        """After a run or a rollback: the timeline now holds `length` tokens; give back what none of them needs."""
        for buffer in self._buffers:
            buffer.trim(length)

    def copy_from(self, other: "Cache", length: int) -> None:
        """Take over the first `length` tokens, a `reachable` length, of another one; into an empty one of its like."""
        for ours, theirs in zip(self._buffers, other._buffers, strict=True):
            ours.copy(theirs, length)
