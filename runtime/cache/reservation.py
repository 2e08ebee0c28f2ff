"""Memory for buffers as long as the context: address space at once, pages only where something is written."""

import contextlib
import mmap
import sys
from math import prod

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError

CAN_GIVE_BACK = hasattr(mmap, "MADV_DONTNEED")
_FLOAT = np.dtype(np.float32)


class NoRoom(MoedgeError):  # noqa: N818 - a state of the machine, no mistake of a request
    """This machine has no memory left for what was asked."""


def reserve(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A zeroed fp32 array that takes address space now and memory only where it is written, 4 KiB at a time."""
    return np.frombuffer(reserve_bytes(prod(shape) * _FLOAT.itemsize), _FLOAT).reshape(shape)


def reserve_bytes(nbytes: int) -> mmap.mmap:
    """The same as a map, for those that `give_back`; NoRoom if the address space does not hold it."""
    try:
        if sys.platform == "win32":
            memory = mmap.mmap(-1, nbytes)
        else:
            # Python names MAP_NORESERVE from 3.13 on; its value on Linux is the same on x86 and ARM
            no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
            memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except (OSError, ValueError, OverflowError) as error:
        raise NoRoom(
            f"the cache cannot reserve {nbytes / 1e9:.1f} GB of address space ({error}): "
            "raise the limit on virtual memory, or export with a shorter context."
        ) from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # with 2 MiB pages one token would cost 2 MiB a buffer, in the shared layout 2 MiB a head
        with contextlib.suppress(OSError):  # a kernel that has none refuses the advice
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def give_back(memory: mmap.mmap, start: int, end: int) -> None:
    """Give the whole pages from byte `start` up to `end` back to the system; they read as zeros from then on."""
    start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if start < end:
        memory.madvise(mmap.MADV_DONTNEED, start, end - start)
