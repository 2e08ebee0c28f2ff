"""Layout `rows` with a window: of all rows the graph reads the last few only, so most old ones are given back.

All rows of the last WINDOW_HISTORY tokens stay, and of older ones a window before every WINDOW_STEP-th token, so that a
rollback to there finds what it reads.
"""

import mmap
from math import prod
from typing import Self

import numpy as np

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.reservation import CAN_GIVE_BACK, give_back, reserve_bytes
from moedge.runtime.manifest import CacheTensor

WINDOW_HISTORY = 512
WINDOW_STEP = 256


class WindowBuffer:
    """Rows [window + capacity, width]; the graph reads [1, window, width], zeros before the first token."""

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self._tensor = tensor
        self._row_bytes = prod(tensor.shape) * FLOAT_BYTES
        shape = (tensor.window + capacity, *tensor.shape)
        self._memory = reserve_bytes(prod(shape) * FLOAT_BYTES)
        self._rows = np.frombuffer(self._memory, np.float32).reshape(shape)
        self._released = 0  # rollbacks to lengths below are possible at multiples of WINDOW_STEP only

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int) -> int:
        """At most: the history and the step that is not complete, and the windows that older steps keep."""
        history = WINDOW_HISTORY + WINDOW_STEP
        old_steps = max(0, length - history) // WINDOW_STEP
        return (min(length, history) + old_steps * tensor.window) * prod(tensor.shape) * FLOAT_BYTES

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """The window moves over one buffer; token t's row stands at index window + t."""
        (width,), window = self._tensor.shape, self._tensor.window
        start = self._rows.ctypes.data + past * self._row_bytes
        end = start + window * self._row_bytes
        binding.bind_input(self._tensor.past, "cpu", 0, np.float32, (1, window, width), start)
        binding.bind_output(self._tensor.present, "cpu", 0, np.float32, (1, new, width), end)

    def reachable(self, length: int) -> int:
        """Any length of the history, before that multiples of WINDOW_STEP."""
        return length if length >= self._released else length - length % WINDOW_STEP

    def trim(self, length: int) -> None:
        """Gives back what only a window far before `length` would read; after a rollback it forgets that it did."""
        self._released = min(self._released, length)
        while CAN_GIVE_BACK and self._released + WINDOW_STEP <= length - WINDOW_HISTORY:
            # the last rows before the next step stay: they are the window of a rollback to there
            first, last = self._released + self._tensor.window, self._released + WINDOW_STEP
            start = -(-first * self._row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            end = last * self._row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            if start < end:
                give_back(self._memory, start, end)
            self._released += WINDOW_STEP

    def copy(self, other: Self, length: int) -> None:
        """Copies the rows that are there: the history's, and the windows before old steps."""
        first, kept, window = other._released, self._tensor.window + length, self._tensor.window
        self._rows[first:kept] = other._rows[first:kept]
        for step in range(WINDOW_STEP, first, WINDOW_STEP):
            self._rows[step : step + window] = other._rows[step : step + window]
        self._released = first
