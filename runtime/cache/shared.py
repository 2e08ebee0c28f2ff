"""Layout `shared`: one buffer for the whole context that GroupQueryAttention reads and extends in place."""

from math import prod
from typing import Self

import numpy as np

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.reservation import reserve
from moedge.runtime.manifest import CacheTensor


class SharedBuffer:
    """One array [1, heads, capacity, head_dim], bound in and out; the graph knows from the mask how full it is."""

    moves = False

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self._tensor = tensor
        heads, head_dim = tensor.shape
        self._array = reserve((1, heads, capacity, head_dim))

    @staticmethod
    def nbytes(tensor: CacheTensor, length: int) -> int:
        """Heads times head_dim a token."""
        return length * prod(tensor.shape) * FLOAT_BYTES

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """The same at each step."""
        for bind, name in ((binding.bind_input, self._tensor.past), (binding.bind_output, self._tensor.present)):
            bind(name, "cpu", 0, np.float32, self._array.shape, self._array.ctypes.data)

    def reachable(self, length: int) -> int:
        """Any length: later positions are written anew."""
        return length

    def trim(self, length: int) -> None:
        """Nothing: every position up to `length` is read at the next run."""

    def copy(self, other: Self, length: int) -> None:
        """Copies the positions of each head."""
        self._array[:, :, :length] = other._array[:, :, :length]
