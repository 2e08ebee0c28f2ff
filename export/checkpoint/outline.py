"""A checkpoint of which only names, shapes and dtypes are known: what a dry run opens its matrices in.

It keeps an account of its own: what an export would consume, and what is wrong with it. It never reads a weight.
"""

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.export.checkpoint.errors import MissingError, TensorError
from moedge.export.checkpoint.folder import Checkpoint


class Outline(Checkpoint):
    """The headers of an opened checkpoint, shared with it; `faults` are all that were found, in that order."""

    def __init__(self, source: Checkpoint) -> None:
        vars(self).update(vars(source))
        self._consumed = {}
        self.faults: dict[str, TensorError] = {}
        self._misshapen: set[str] = set()
        # A config that is nonsense may ask for anything: beyond these, it is not worth the time and memory to go on.
        self._most_faults = 1000 + 2 * len(self._headers)
        self._most_numbers = 64 * max((prod(header.shape) for header in self._headers.values()), default=0)

    def report(self, module: str, error: TensorError, shape: tuple[int, ...]) -> None:
        """Note what is wrong and go on, unless the config asks for far more than there is."""
        self.faults.setdefault(error.name, error)
        if not isinstance(error, MissingError):
            self._misshapen |= {module, f"{module}_blocks", f"{module}_scales"}
        if len(self.faults) > self._most_faults or prod(shape) > self._most_numbers:
            raise error

    def unconsumed(self, ignored: Iterable[str]) -> list[str]:
        """The tensors that nobody would read, without the other tensors of a matrix that could not be opened."""
        bad = self._misshapen
        return [n for n in super().unconsumed(ignored) if n not in bad and n.rpartition(".")[0] not in bad]

    def consume(self, names: Iterable[str]) -> None:
        """Mark tensors as consumed; nobody is told of bytes."""
        self._consumed |= dict.fromkeys(names)

    def peek(self, name: str) -> None:
        """Nothing: values are not known."""
        self.require(name)
        self._consumed[name] = None

    def read_parameter(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Zeros of the wanted shape, in the place of the values."""
        self._consumed[name] = None
        try:
            self.expect(name, *shape)
            self.require_float(name)
        except TensorError as error:
            self.report(name, error, shape)
        return np.broadcast_to(np.float32(0), shape)

    def read_part(self, name: str, *part: slice) -> NDArray[Any]:
        """Never: whoever reads in a dry run has not asked for what may be unknown."""
        raise AssertionError(f"{name} is read in a dry run")
