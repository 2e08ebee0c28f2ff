"""The tokens of one answer, chosen in the kernel library by the numbers of `distribution.py`, bit for bit.

What is rare is left to numpy: a token is given or it is not.
"""

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.kernels.library import Library


@dataclass(frozen=True)
class Wish:
    """How to choose; the last three are logits below the largest one, and a factor of all of them.

    Beyond `lowest` nothing is drawn, beyond `least` nothing is left by min_p.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition: float
    presence: float
    frequency: float
    factor: float
    lowest: float
    least: float


_FLOAT32 = np.dtype(np.float32)
_Memory = ctypes.c_char * 0  # of any size


class _Choice(ctypes.Structure):
    """As in sampling.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("room", "work")),
        *((name, ctypes.c_int64) for name in ("size", "seen_count", "top_k")),
        *((name, ctypes.c_double) for name in ("temperature", "top_p", "min_p", "chance")),
        *((name, ctypes.c_float) for name in ("factor", "lowest", "least", "repetition", "presence", "frequency")),
    )


class Chooser:
    """For one wish and vocabulary; `room` [vocab] is used."""

    def __init__(self, library: Library, wish: Wish, room: NDArray[np.float32]) -> None:
        self._library = library
        self._memory = room, np.empty(library.choice_bytes(len(room)), np.uint8)
        wishes = {name: getattr(wish, name) for name, *_ in _Choice._fields_ if hasattr(wish, name)}
        self._choice = _Choice(size=len(room), **wishes)
        self._told = ctypes.byref(self._choice)
        self._choice.room, self._choice.work = (memory.ctypes.data for memory in self._memory)

    def choose(
        self,
        logits: NDArray[np.float32],
        chance: float,
        seen: NDArray[np.int64] | None = None,
        counts: NDArray[np.int32] | None = None,
    ) -> int | None:
        """A token of logits [vocab], with penalties for tokens `seen`, so often in the answer; `chance` as for `draw`.

        None: the logits are no numbers, or too many tokens matter. ValueError or TypeError for logits of another kind,
        or in memory that is not one piece, or that only may be read.
        """
        if logits.dtype != _FLOAT32 or logits.size != self._choice.size:
            raise ValueError(f"{logits.dtype} {logits.shape}: float32 of the vocabulary is read")
        choice = self._choice
        choice.chance, choice.seen_count = chance, 0
        # numpy's own way to an address is Python code, and takes 0.03 ms where caches are cold
        if seen is None or counts is None:
            token_id = self._library.choose(self._told, _Memory.from_buffer(logits.data), None, None)
        else:
            choice.seen_count = len(seen)
            arrays = _Memory.from_buffer(logits.data), _Memory.from_buffer(seen.data), _Memory.from_buffer(counts.data)
            token_id = self._library.choose(self._told, *arrays)
        return None if token_id < 0 else token_id
