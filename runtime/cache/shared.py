"""Layout `shared`: one buffer for the whole context that GroupQueryAttention reads and extends in place.

With a window the kernel passes over old rows without their weighing anything: most of them are given back (eviction.py)
and read as zeros.
"""

import mmap
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.eviction import Eviction, count_held
from moedge.runtime.cache.reservation import give_back, reserve_bytes
from moedge.runtime.manifest import CacheTensor


class SharedBuffer:
    """One array [1, heads, capacity, head_dim], bound in and out; the graph knows from the mask how full it is."""

    moves = False

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self._tensor = tensor
        heads, head_dim = tensor.shape
        self._memory = reserve_bytes(heads * capacity * head_dim * FLOAT_BYTES)
        self._array = np.frombuffer(self._memory, np.float32).reshape(1, heads, capacity, head_dim)
        self._eviction = Eviction(tensor.window) if tensor.window else None

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int) -> int:
        """Heads times head_dim a token; with a window at most those that are held, in whole pages of each head."""
        heads, head_dim = tensor.shape
        whole = length * prod(tensor.shape) * FLOAT_BYTES
        if not tensor.window:
            return whole
        held, page = count_held(tensor.window, length), mmap.PAGESIZE
        rows = (held.rows + held.windows * tensor.window) * head_dim * FLOAT_BYTES
        return min(whole, heads * (rows + (2 + 2 * held.windows) * page))

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """The same at each step."""
        for bind, name in ((binding.bind_input, self._tensor.past), (binding.bind_output, self._tensor.present)):
            bind(name, "cpu", 0, np.float32, self._array.shape, self._array.ctypes.data)

    def reachable(self, length: int) -> int:
        """Any length: later positions are written anew. With a window, any of the history and before that each step."""
        return self._eviction.reachable(length) if self._eviction else length

    def trim(self, length: int) -> None:
        """Gives back what only a window far before `length` would read, of each head."""
        _, heads, capacity, head_dim = self._array.shape
        row = head_dim * FLOAT_BYTES
        for first, last in self._eviction.trim(length) if self._eviction else ():
            for start in range(0, heads * capacity, capacity):
                give_back(self._memory, (start + first) * row, (start + last) * row)

    def holds(self, first: int, last: int) -> bool:
        """Unless they were given back."""
        return self._eviction is None or self._eviction.holds(first, last)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """[heads, last - first, head_dim]."""
        return self._array[0, :, first:last]

    def begin(self, first: int, length: int) -> None:
        """A rollback finds what it reads as far as rows were written."""
        if self._eviction:
            self._eviction.begin(first, length)

    def copy(self, other: Self, length: int) -> None:
        """Copies the positions of each head that are there."""
        held = [(0, length)]
        if self._eviction and other._eviction:
            held = [*self._eviction.follow(other._eviction, length)]
        for first, last in held:
            rows = slice(max(first, 0), last)
            self._array[:, :, rows] = other._array[:, :, rows]
