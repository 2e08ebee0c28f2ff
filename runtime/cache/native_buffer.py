"""Layout `native`: one buffer for the whole context that moedge's kernels read and extend in place, row by row.

What numbers a row is made of is the device profile's choice, which kernels tell by the length of a row. Where they read
the last rows only, most old ones are given back (eviction.py).
"""

import mmap
from math import gcd
from typing import Self

import numpy as np

from moedge.devices.profile import CacheType
from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.eviction import Eviction, count_held
from moedge.runtime.cache.reservation import give_back, reserve_bytes
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


class NativeBuffer:
    """Bytes [1, kv_heads, capacity, row_bytes], bound in and out; segments tell the graph how full it is.

    The rows of each head begin at a page of their own, for which the capacity is a little more than was asked for.
    """

    moves = False

    def __init__(self, tensor: CacheTensor, capacity: int, wish: CacheType) -> None:
        self._tensor = tensor
        self._row_bytes = row_bytes(tensor, wish)
        rows = mmap.PAGESIZE // gcd(self._row_bytes, mmap.PAGESIZE)
        shape = tensor.shape[0], -(-capacity // rows) * rows, self._row_bytes
        self._memory = reserve_bytes(shape[0] * shape[1] * shape[2])
        self._rows = np.frombuffer(self._memory, np.uint8).reshape(shape)
        self._eviction = Eviction(tensor.window) if tensor.window else None

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
        """The same at each step."""
        shape, address = (1, *self._rows.shape), self._rows.ctypes.data
        binding.bind_input(self._tensor.past, "cpu", 0, np.uint8, shape, address)
        binding.bind_output(self._tensor.present, "cpu", 0, np.uint8, shape, address)

    def reachable(self, length: int) -> int:
        """Any length; with a window, any of the history and before that every step's."""
        return self._eviction.reachable(length) if self._eviction else length

    def trim(self, length: int) -> None:
        """Gives back what only a window far before `length` would read, in each head."""
        for first, last in self._eviction.trim(length) if self._eviction else ():
            for head in range(self._rows.shape[0]):
                start = head * self._rows.shape[1]
                give_back(self._memory, (start + first) * self._row_bytes, (start + last) * self._row_bytes)

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
