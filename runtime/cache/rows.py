"""Layout `rows`: a row a token, read as a view of all rows so far and extended in place."""

from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.reservation import reserve
from moedge.runtime.manifest import CacheTensor


class RowsBuffer:
    """Rows [capacity, width]; the graph reads [1, past, width] and writes [1, new, width] behind them."""

    moves = True

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self._tensor = tensor
        self._rows = reserve((capacity, *tensor.shape))

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int) -> int:
        """A row a token."""
        return length * prod(tensor.shape) * FLOAT_BYTES

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """Views of one buffer, so that no step copies a row."""
        (width,) = self._tensor.shape
        start = self._rows.ctypes.data
        end = start + past * width * FLOAT_BYTES
        binding.bind_input(self._tensor.past, "cpu", 0, np.float32, (1, past, width), start)
        binding.bind_output(self._tensor.present, "cpu", 0, np.float32, (1, new, width), end)

    def reachable(self, length: int) -> int:
        """Any length: later rows are written anew."""
        return length

    def trim(self, length: int) -> None:
        """Nothing: every row up to `length` is read at the next run."""

    def holds(self, first: int, last: int) -> bool:
        """Always."""
        return True

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """[last - first, width]."""
        return self._rows[first:last]

    def begin(self, first: int, length: int) -> None:
        """Nothing: they are all there."""

    def copy(self, other: Self, length: int) -> None:
        """Copies the rows."""
        self._rows[:length] = other._rows[:length]
