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
    nbytes = prod(shape) * _FLOAT.itemsize
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
    return np.frombuffer(memory, _FLOAT).reshape(shape)


class Cache:
    """Buffers for up to `capacity` tokens: rows [capacity, width], shared [1, heads, capacity, head_dim]."""

    def __init__(self, tensors: tuple[CacheTensor, ...], capacity: int) -> None:
        self.capacity = capacity
        self._rows: list[tuple[CacheTensor, NDArray[np.float32]]] = []
        self._shared: list[tuple[CacheTensor, NDArray[np.float32]]] = []
        for tensor in tensors:
            if tensor.layout == "rows":
                # a window reads this many rows before the first token, which are zeros
                self._rows.append((tensor, reserve((tensor.window + capacity, *tensor.shape))))
            else:
                heads, head_dim = tensor.shape
                self._shared.append((tensor, reserve((1, heads, capacity, head_dim))))

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token's entries take over all tensors."""
        return sum(prod(tensor.shape) * _FLOAT.itemsize for tensor, _ in self._rows + self._shared)

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
            kept = tensor.window + length
            ours[:kept] = theirs[:kept]
        for (_, ours), (_, theirs) in zip(self._shared, other._shared, strict=True):
            ours[:, :, :length] = theirs[:, :, :length]
