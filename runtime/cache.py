"""The cache of one timeline: one buffer a tensor, reserved for the whole context, resident only as far as it is used.

It owns the buffers and binds them to the graph as views, so that no step copies a cache; docs/graph.md describes the
two layouts. What the rows mean is the graph's business, which tokens they hold is the session's.
"""

import mmap
import sys
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import CacheTensor

_FLOAT = np.dtype(np.float32)
# Of a cache that is read through a window, how many last tokens keep their rows, and how often an older window is kept.
WINDOW_HISTORY = 512
WINDOW_STEP = 256


class Binding(Protocol):
    """The part of onnxruntime's IOBinding that a cache uses."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory of ours as a graph input."""

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory of ours as a graph output."""


def reserve(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A zeroed fp32 array that takes address space now and memory only where it is written, 4 KiB at a time."""
    return np.frombuffer(_reserve(prod(shape) * _FLOAT.itemsize), _FLOAT).reshape(shape)


def _reserve(nbytes: int) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            memory = mmap.mmap(-1, nbytes)
        else:
            # Python names MAP_NORESERVE from 3.13 on; its value on Linux is the same on x86 and ARM
            no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
            memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except (OSError, ValueError, OverflowError) as error:
        raise MoedgeError(
            f"the cache cannot reserve {nbytes / 1e9:.1f} GB of address space ({error}): "
            "raise the limit on virtual memory, or export with a shorter context."
        ) from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # with 2 MiB pages one token would cost 2 MiB a buffer, in the shared layout 2 MiB a head
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


class Cache:
    """Buffers for up to `capacity` tokens: rows [capacity, width], shared [1, heads, capacity, head_dim]."""

    def __init__(self, tensors: tuple[CacheTensor, ...], capacity: int) -> None:
        self.capacity = capacity
        self._released = 0  # rollbacks to lengths below are possible at multiples of WINDOW_STEP only
        self._windows: list[tuple[CacheTensor, mmap.mmap]] = []
        self._rows: list[tuple[CacheTensor, NDArray[np.float32]]] = []
        self._shared: list[tuple[CacheTensor, NDArray[np.float32]]] = []
        for tensor in tensors:
            if tensor.layout == "rows":
                self._rows.append((tensor, self._reserve_rows(tensor)))
            else:
                heads, head_dim = tensor.shape
                self._shared.append((tensor, reserve((1, heads, capacity, head_dim))))

    def _reserve_rows(self, tensor: CacheTensor) -> NDArray[np.float32]:
        # a window reads as many rows before the first token, which are zeros
        shape = (tensor.window + self.capacity, *tensor.shape)
        memory = _reserve(prod(shape) * _FLOAT.itemsize)
        if tensor.window:
            self._windows.append((tensor, memory))
        return np.frombuffer(memory, _FLOAT).reshape(shape)

    def nbytes(self, length: int) -> int:
        """Bytes of memory that the first `length` tokens take over all tensors."""
        tensors = [tensor for tensor, _ in self._rows + self._shared]
        held = min(length, WINDOW_HISTORY + WINDOW_STEP)
        return sum(prod(t.shape) * (held if t.window else length) for t in tensors) * _FLOAT.itemsize

    def reachable(self, length: int) -> int:
        """The longest length up to `length` that can be rolled back to: of old windows only every so many are kept."""
        return length if length >= self._released else length - length % WINDOW_STEP

    def trim(self, length: int) -> None:
        """Give back memory that only a window far before `length` would read, or forget that it was given back."""
        self._released = min(self._released, length)
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        while self._windows and self._released + WINDOW_STEP <= length - WINDOW_HISTORY:
            for tensor, memory in self._windows:
                row = prod(tensor.shape) * _FLOAT.itemsize
                # the last rows before the next step stay: they are the window of a rollback to there
                first, last = self._released + tensor.window, self._released + WINDOW_STEP
                start, end = (
                    -(-first * row // mmap.PAGESIZE) * mmap.PAGESIZE,
                    last * row // mmap.PAGESIZE * mmap.PAGESIZE,
                )
                if start < end:
                    memory.madvise(mmap.MADV_DONTNEED, start, end - start)
            self._released += WINDOW_STEP

    def past(self, name: str, length: int) -> NDArray[np.float32]:
        """A view of the first `length` tokens of the tensor with graph input `name`: [1, t, width] or [1, h, t, d]."""
        for tensor, buffer in self._rows:
            if tensor.past == name:
                return buffer[np.newaxis, tensor.window : tensor.window + length]
        for tensor, buffer in self._shared:
            if tensor.past == name:
                return buffer[:, :, :length]
        raise KeyError(name)

    def bind_shared(self, binding: Binding) -> None:
        """Bind the buffers that do not depend on the step, in and out."""
        for tensor, buffer in self._shared:
            binding.bind_input(tensor.past, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
            binding.bind_output(tensor.present, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)

    def bind_rows(self, binding: Binding, past: int, new: int) -> None:
        """Bind the `past` rows, or a window's last ones, as input and the `new` rows after them as output, in place."""
        for tensor, buffer in self._rows:
            (width,) = tensor.shape
            row = width * _FLOAT.itemsize
            start = buffer.ctypes.data + (past * row if tensor.window else 0)
            rows = tensor.window or past
            binding.bind_input(tensor.past, "cpu", 0, np.float32, (1, rows, width), start)
            binding.bind_output(tensor.present, "cpu", 0, np.float32, (1, new, width), start + rows * row)

    def copy_from(self, other: "Cache", length: int) -> None:
        """Take over the first `length` tokens of a cache of the same tensors."""
        for (tensor, ours), (_, theirs) in zip(self._rows, other._rows, strict=True):
            first, kept = (other._released if tensor.window else 0), tensor.window + length
            ours[first:kept] = theirs[first:kept]
            for step in range(WINDOW_STEP, first, WINDOW_STEP):
                ours[step : step + tensor.window] = theirs[step : step + tensor.window]
        self._released = other._released
        for (_, ours), (_, theirs) in zip(self._shared, other._shared, strict=True):
            ours[:, :, :length] = theirs[:, :, :length]
