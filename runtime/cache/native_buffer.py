"""Layout `native`: one buffer for the whole context that moedge's kernels read and extend in place, row by row.

What numbers a row is made of is the device profile's choice, which kernels tell by the length of a row. Where they read
the last rows only, most old ones are given back (eviction.py).
"""

import mmap
from math import gcd, prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moedge.devices.profile_file import CacheType
from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.eviction import Eviction, count_held
from moedge.runtime.cache.reservation import CAN_GIVE_BACK, give_back, reserve_bytes
from moedge.runtime.manifest import CacheTensor

GROUP = 32  # numbers of an int8 row that share a scale


def row_bytes(tensor: CacheTensor, wish: CacheType) -> int:
    """Bytes of one head's row of a token, in the numbers that are wished for unless the tensor is exact.

    float32 and float16: the numbers. int8: the codes, up to a multiple of four, then a float32 scale for each GROUP.
    """
    width = tensor.shape[-1]
    if tensor.exact or wish == "float32":
        return width * FLOAT_BYTES
    return 2 * width if wish == "float16" else 4 * (-(-width // 4)) + FLOAT_BYTES * (-(-width // GROUP))


class NativeMemory:
    """Bytes [slots, kv_heads, capacity, row_bytes] of a tensor, bound in and out; segments tell how full slots are.

    The rows of each head begin at a page of their own, for which the capacity is a little more than was asked for.
    """

    def __init__(self, tensor: CacheTensor, capacity: int, wish: CacheType, slots: int) -> None:
        self.tensor = tensor
        each = row_bytes(tensor, wish)
        rows = mmap.PAGESIZE // gcd(each, mmap.PAGESIZE)
        shape = slots, tensor.shape[0], -(-capacity // rows) * rows, each
        self._memory = reserve_bytes(prod(shape))
        self.rows = np.frombuffer(self._memory, np.uint8).reshape(shape)

    def bind(self, binding: Binding) -> None:
        """The same at each run."""
        shape, address = self.rows.shape, self.rows.ctypes.data
        binding.bind_input(self.tensor.past, "cpu", 0, np.uint8, shape, address)
        binding.bind_output(self.tensor.present, "cpu", 0, np.uint8, shape, address)

    def give_back(self, slot: int, first: int, last: int) -> None:
        """The rows of tokens from `first` to before `last` are needed no more, of each head."""
        _, heads, capacity, each = self.rows.shape
        for head in range(slot * heads, (slot + 1) * heads):
            start = head * capacity
            give_back(self._memory, (start + first) * each, (start + last) * each)

    def clear(self, slot: int) -> None:
        """No row of a slot is needed any more."""
        if CAN_GIVE_BACK:
            nbytes = self.rows[slot].nbytes
            give_back(self._memory, slot * nbytes, (slot + 1) * nbytes)


class NativeBuffer:
    """One slot of a tensor's memory."""

    moves = False

    def __init__(self, memory: NativeMemory, slot: int) -> None:
        self._memory = memory
        self._slot = slot
        self._rows: NDArray[np.uint8] = memory.rows[slot]  # [kv_heads, capacity, row_bytes]
        window = memory.tensor.window
        self._eviction = Eviction(window) if window else None

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int, wish: CacheType) -> int:
        """Whole pages of each head: all rows, or with a window at most those that are held."""
        heads, each = tensor.shape[0], row_bytes(tensor, wish)
        whole = heads * _pages(length * each)
        if not tensor.window:
            return whole
        held = count_held(tensor.window, length)
        old = held.windows * (_pages(tensor.window * each) + mmap.PAGESIZE)  # a window may begin within a page
        return min(whole, heads * (_pages(held.rows * each) + old))

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """All slots, the same at each step."""
        self._memory.bind(binding)

    def reachable(self, length: int) -> int:
        """Any length; with a window, any of the history and before that every step's."""
        return self._eviction.reachable(length) if self._eviction else length

    def trim(self, length: int) -> None:
        """Gives back what only a window far before `length` would read, in each head."""
        for first, last in self._eviction.trim(length) if self._eviction else ():
            self._memory.give_back(self._slot, first, last)

    def holds(self, first: int, last: int) -> bool:
        """Unless they were given back."""
        return self._eviction is None or self._eviction.holds(first, last)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """[kv_heads, last - first, row_bytes]."""
        return self._rows[:, first:last]

    def begin(self, first: int, length: int) -> None:
        """A rollback finds what it reads as far as rows were written."""
        if self._eviction:
            self._eviction.begin(first, length)

    def copy(self, other: Self, length: int) -> None:
        """Copies the rows that are there."""
        held = [(0, length)]
        if self._eviction and other._eviction:
            held = [*self._eviction.follow(other._eviction, length)]
        for first, last in held:
            rows = slice(max(first, 0), last)
            self._rows[:, rows] = other._rows[:, rows]


def _pages(nbytes: int) -> int:
    """So many bytes as whole pages."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
