"""Views of a cache's memory for tests, by what the cache itself binds to the graph."""

import ctypes
import mmap
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache import Cache


class Recorder:
    """A binding that keeps what was bound, by name."""

    def __init__(self) -> None:
        self.inputs: dict[str, NDArray[Any]] = {}
        self.outputs: dict[str, NDArray[Any]] = {}

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr) -> None:
        self.inputs[name] = view(buffer_ptr, shape, element_type)

    def bind_output(self, name, device_type, device_id, element_type, shape, buffer_ptr) -> None:
        self.outputs[name] = view(buffer_ptr, shape, element_type)


def view(address: int, shape: tuple[int, ...], kind: Any = np.float32) -> NDArray[Any]:
    """An array over memory that somebody else keeps alive."""
    memory = (ctypes.c_ubyte * (prod(shape) * np.dtype(kind).itemsize)).from_address(address)
    return np.frombuffer(memory, kind).reshape(shape)


def resident(array: NDArray[Any]) -> int:
    """Bytes of the pages under an array that are in memory; what else the process takes meanwhile does not count."""
    first, last = array.ctypes.data // mmap.PAGESIZE, -(-(array.ctypes.data + array.nbytes) // mmap.PAGESIZE)
    pages = np.fromfile("/proc/self/pagemap", np.uint64, last - first, offset=8 * first)
    return int(np.count_nonzero(pages >> np.uint64(62))) * mmap.PAGESIZE  # present or swapped


def past_of(cache: Cache, name: str, length: int) -> NDArray[np.float32]:
    """What the graph reads after `length` tokens: rows [1, t, width], or [1, heads, t, head_dim] of a shared buffer."""
    recorder = Recorder()
    cache.bind(recorder, length, 1)
    array = recorder.inputs[name]
    return array[:, :, :length] if array.ndim == 4 else array


def present_of(cache: Cache, name: str, past: int, new: int) -> NDArray[np.float32]:
    """Where the graph writes the rows [1, new, width] of `new` tokens after `past` ones."""
    recorder = Recorder()
    cache.bind(recorder, past, new)
    return recorder.outputs[name]
