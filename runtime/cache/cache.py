"""The cache of one timeline: one buffer a tensor, reserved for the whole context, resident only as far as it is used.

It gives every tensor the buffer of its layout and treats them alike. What the rows mean is the graph's business, which
tokens they hold is the session's.
"""

from collections.abc import Iterable

from moedge.runtime.cache.buffer import Binding, Buffer
from moedge.runtime.cache.rows import RowsBuffer
from moedge.runtime.cache.shared import SharedBuffer
from moedge.runtime.cache.window import WindowBuffer
from moedge.runtime.manifest import CacheTensor


def layout_of(tensor: CacheTensor) -> type[Buffer]:
    """The kind of buffer that a tensor of the manifest gets; a window makes a kind of its own of the rows."""
    if tensor.layout == "shared":
        return SharedBuffer
    return WindowBuffer if tensor.window else RowsBuffer


def cache_nbytes(tensors: Iterable[CacheTensor], length: int) -> int:
    """Bytes of memory that the first `length` tokens of one timeline take over all tensors."""
    return sum(layout_of(tensor).nbytes(tensor, length) for tensor in tensors)


class Cache:
    """Buffers for up to `capacity` tokens of one timeline."""

    def __init__(self, tensors: tuple[CacheTensor, ...], capacity: int) -> None:
        self.capacity = capacity
        self._tensors = tensors
        self._buffers = [layout_of(tensor)(tensor, capacity) for tensor in tensors]

    def nbytes(self, length: int) -> int:
        """Bytes of memory that the first `length` tokens take over all tensors."""
        return cache_nbytes(self._tensors, length)

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """Bind what the graph reads of the `past` tokens and where it writes for the `new` ones, all in place."""
        for buffer in self._buffers:
            buffer.bind(binding, past, new)

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
        """Take over the first `length` tokens, which are all, of a cache of the same tensors."""
        for ours, theirs in zip(self._buffers, other._buffers, strict=True):
            ours.copy(theirs, length)
