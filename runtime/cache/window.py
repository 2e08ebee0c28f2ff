"""Layout `rows` with a window: of all rows the graph reads the last few only, so most old ones are given back."""

from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.eviction import Eviction, count_held
from moedge.runtime.cache.reservation import give_back, reserve_bytes
from moedge.runtime.manifest import CacheTensor


class WindowBuffer:
    """Rows [window + capacity, width]; the graph reads [1, window, width], zeros before the first token."""

    moves = True

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self._tensor = tensor
        self._row_bytes = prod(tensor.shape) * FLOAT_BYTES
        shape = (tensor.window + capacity, *tensor.shape)
        self._memory = reserve_bytes(prod(shape) * FLOAT_BYTES)
        self._rows = np.frombuffer(self._memory, np.float32).reshape(shape)
        self._eviction = Eviction(tensor.window)

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int) -> int:
        """At most: the history and the step that is not complete, and the windows that older steps keep."""
        held = count_held(tensor.window, length)
        return (held.rows + held.windows * tensor.window) * prod(tensor.shape) * FLOAT_BYTES

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """The window moves over one buffer; token t's row stands at index window + t."""
        (width,), window = self._tensor.shape, self._tensor.window
        start = self._rows.ctypes.data + past * self._row_bytes
        end = start + window * self._row_bytes
        binding.bind_input(self._tensor.past, "cpu", 0, np.float32, (1, window, width), start)
        binding.bind_output(self._tensor.present, "cpu", 0, np.float32, (1, new, width), end)

    def reachable(self, length: int) -> int:
        """Any length of the history, before that every step's."""
        return self._eviction.reachable(length)

    def trim(self, length: int) -> None:
        """Gives back what only a window far before `length` would read."""
        for first, last in self._eviction.trim(length):
            start, end = (self._row_bytes * (self._tensor.window + token) for token in (first, last))
            give_back(self._memory, start, end)

    def holds(self, first: int, last: int) -> bool:
        """Unless they were given back."""
        return self._eviction.holds(first, last)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """[last - first, width]."""
        window = self._tensor.window
        return self._rows[window + first : window + last]

    def begin(self, first: int, length: int) -> None:
        """A rollback finds what it reads as far as rows were written."""
        self._eviction.begin(first, length)

    def copy(self, other: Self, length: int) -> None:
        """Copies the rows that are there: the history's, and the windows before old steps."""
        window = self._tensor.window
        for first, last in self._eviction.follow(other._eviction, length):
            self._rows[window + first : window + last] = other._rows[window + first : window + last]
