"""Opens the kernel library beside this file, and is the only one to call its functions; nothing is computed here.

A `Library` is one that was found, loaded and checked on this machine; everything that may be wrong with it is said by
`open_library`, in one sentence. onnxruntime loads the operators of `Library.path` by itself.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError

LAYOUT = 1  # the number of the layout of weights that bundles have and the library reads
NAME = "libmoedge_kernels.so"
ISA = "MOEDGE_ISA"  # the environment variable that forces an instruction set
INSTEAD = "or export for onnxruntime's own kernels, about half as fast, with `moedge export --experts fused`"


@dataclass(frozen=True)
class Library:
    """The library, loaded and checked. `isa` is the instruction set that it runs on here: "scalar", "avx2", ..."""

    path: Path
    isa: str
    _functions: ctypes.CDLL = field(repr=False, compare=False)
    # see choice.py; Python's lock is kept, as others might take milliseconds for a turn
    choose: Callable[..., int] = field(repr=False, compare=False)

    @contextmanager
    def owned(self, owner: int) -> Iterator[None]:
        """Kernels of sessions that this thread makes meanwhile belong to `owner`, a number above 0."""
        self._functions.moedge_own(owner)
        try:
            yield
        finally:
            self._functions.moedge_own(0)

    @contextmanager
    def lent(self, threads: int, awake_us: int) -> Iterator[None]:
        """Kernels of sessions that this thread makes meanwhile share `threads`, the one that calls them included.

        They last as long as the kernels. For `awake_us` after its last operator such a thread waits in a loop.
        """
        self._functions.moedge_lend(threads, awake_us)
        try:
            yield
        finally:
            self._functions.moedge_lend(0, 0)

    def limit(self, threads: int) -> None:
        """Of the threads that kernels share, no more than these work in runs that this thread begins from now on."""
        self._functions.moedge_limit(threads)

    def usage(self, owner: int, layer: int, experts: int) -> NDArray[np.uint64]:
        """How often each of a layer's experts was chosen [experts], since the kernels of `owner` were made.

        LookupError if the owner has no such layer, or another number of experts there.
        """
        counts = np.zeros(experts, np.uint64)
        there = self._functions.moedge_usage(owner, layer, counts.ctypes.data, experts)
        if there != experts:
            found = "no experts" if there < 0 else f"{there} experts"
            raise LookupError(f"{found} in layer {layer} of owner {owner}, {experts} expected")
        return counts

    def choice_bytes(self, size: int) -> int:
        """Memory that choosing one of so many tokens works in."""
        nbytes: int = self._functions.moedge_choice_bytes(size)
        return nbytes

    def read(self, words: NDArray[np.uint64]) -> int:
        """Read all of an array, of whole lines of 128 bytes, and add it up modulo 2^64; other Python threads go on.

        ValueError if it is not of whole lines, or does not lie in one piece.
        """
        if words.nbytes % 128 or not words.flags.forc:
            raise ValueError(f"{words.nbytes} bytes, strides {words.strides}: one piece of whole lines of 128 is read")
        total: int = self._functions.moedge_read(words.ctypes.data, words.nbytes)
        return total


def find_library() -> Path | None:
    """The library beside this file; None if it was not built."""
    path = Path(__file__).with_name(NAME)
    return path if path.is_file() else None


def open_library(path: Path | None = None) -> Library:
    """The library, ready to be used; `path` opens another build than the one that belongs to this moedge.

    MoedgeError if it is not built, cannot be loaded, reads another layout, computes wrongly on this CPU, does not fit
    this onnxruntime, or if MOEDGE_ISA names what this CPU has not.
    """
    path = path or find_library()
    if path is None:
        raise MoedgeError(
            "moedge's kernels are not built: install a C++ compiler and moedge again, take a wheel of moedge for this "
            f"machine, {INSTEAD}."
        )
    functions = _load(path)
    _refuse_other_layout(path, functions)
    isa = _choose_isa(functions)
    wrong = functions.moedge_self_check()
    if wrong is not None:
        raise MoedgeError(
            f"moedge's kernels compute wrong results on this CPU ({isa}: {wrong.decode()}): set {ISA} to another "
            f"instruction set, {INSTEAD}."
        )
    _refuse_other_onnxruntime(path)
    return Library(path, isa, functions, _keep_lock(path))


def _load(path: Path) -> ctypes.CDLL:
    """Loaded, with the types of its functions."""
    try:
        functions = ctypes.CDLL(str(path))
        functions.moedge_layout.restype = ctypes.c_int
        for function in (functions.moedge_isa, functions.moedge_self_check):
            function.restype = ctypes.c_char_p
        functions.moedge_own.restype = None
        functions.moedge_own.argtypes = [ctypes.c_uint64]
        functions.moedge_lend.restype = None
        functions.moedge_lend.argtypes = [ctypes.c_int, ctypes.c_int]
        functions.moedge_limit.restype = None
        functions.moedge_limit.argtypes = [ctypes.c_int]
        functions.moedge_usage.restype = ctypes.c_int64
        functions.moedge_read.restype = ctypes.c_uint64
        functions.moedge_read.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        functions.moedge_choice_bytes.restype = ctypes.c_int64
        functions.moedge_choice_bytes.argtypes = [ctypes.c_int64]
        functions.moedge_usage.argtypes = [ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    except (OSError, AttributeError) as error:  # no library of this machine, or one without the functions
        raise MoedgeError(
            f"moedge's kernels cannot be loaded ({error}): install moedge again on this machine, {INSTEAD}."
        ) from error
    return functions


def _keep_lock(path: Path) -> Callable[..., int]:
    """The function that chooses, called without giving Python's lock away."""
    choose = ctypes.PyDLL(str(path)).moedge_choose
    choose.restype = ctypes.c_int64
    choose.argtypes = [ctypes.c_void_p] * 4
    return choose


def _refuse_other_layout(path: Path, functions: ctypes.CDLL) -> None:
    layout = functions.moedge_layout()
    if layout != LAYOUT:
        raise MoedgeError(
            f"{path} reads weights in layout {layout} and this moedge has layout {LAYOUT}: install moedge again, "
            f"{INSTEAD}."
        )


def _choose_isa(functions: ctypes.CDLL) -> str:
    isa: str = functions.moedge_isa().decode()
    if not isa:
        raise MoedgeError(
            f"{ISA}={os.environ.get(ISA, '')} names an instruction set that this CPU or moedge's kernels have not: "
            "unset it, or name another."
        )
    return isa


def _refuse_other_onnxruntime(path: Path) -> None:
    try:
        onnxruntime.SessionOptions().register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's exceptions share no other base
        reason = " ".join(str(error).split())
        raise MoedgeError(
            f"onnxruntime {onnxruntime.__version__} does not take moedge's kernels ({reason}): install another "
            f"version, {INSTEAD}."
        ) from error
