"""A matrix of a checkpoint as a value that is read a few rows at a time, as floats or as codes.

A matrix may come as codes of its own; they stay as they are wherever the scheme holds them. No matrix keeps its weights
in memory. Matrices made of others are views.py; how each published format is read is modules.py and what it names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from moedge.devices.errors import MoedgeError
from moedge.quant.blocks import F32, Codes, ScaleError
from moedge.quant.grids import FloatGrid, Grid, holds
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme

_CHUNK_BYTES = 4 << 20  # what a core's cache holds: quantizing 32 MiB at a time took twice as long


@dataclass(frozen=True)
class Source:
    """One matrix as it was published: what the report says of it, and the scheme that holds its own codes, if any."""

    format: str  # "bf16", "compressed-tensors int4 group 32" ...
    quantized: bool
    parameters: int
    columns: int
    native: Scheme | None = None
    tensors: tuple[str, ...] = ()  # that its rows are read from


class Matrix(Protocol):
    """A weight [rows, columns], to be multiplied from the left: y = x · Wᵀ."""

    @property
    def name(self) -> str:
        """Where it stands in the checkpoint."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def sources(self) -> tuple[Source, ...]:
        """The published matrices that it is made of."""
        ...

    def read(self, start: int, stop: int) -> F32:
        """Rows start:stop as fp32; MoedgeError if what is stored cannot be read."""
        ...

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        """Rows start:stop in a scheme: its own codes where the scheme holds them, else rounded ones."""
        ...


@dataclass(frozen=True)
class Rounded:
    """A matrix without codes that a kernel reads: it is read as fp32 and rounded."""

    name: str
    shape: tuple[int, int]
    format: str
    quantized: bool
    tensors: tuple[str, ...]  # that `rows` reads
    rows: Callable[[int, int], F32]  # ValueError if they cannot be read

    @property
    def sources(self) -> tuple[Source, ...]:
        rows, columns = self.shape
        return (Source(self.format, self.quantized, rows * columns, columns, None, self.tensors),)

    def read(self, start: int, stop: int) -> F32:
        try:
            return self.rows(start, stop)
        except ValueError as error:
            raise _unreadable(self.name, error) from None

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        return round_rows(self, scheme, rounding, start, stop)


@dataclass(frozen=True)
class Coded:
    """A matrix that comes as codes: integers, or four-bit floats."""

    name: str
    shape: tuple[int, int]
    format: str
    native: Scheme | None  # None: no scheme of ours holds its grid
    tensors: tuple[str, ...]  # that `grid` reads
    grid: Callable[[int, int], Grid | FloatGrid]  # of some rows; ValueError if they cannot be read

    @property
    def sources(self) -> tuple[Source, ...]:
        rows, columns = self.shape
        return (Source(self.format, True, rows * columns, columns, self.native, self.tensors),)

    def read(self, start: int, stop: int) -> F32:
        return self._grid(start, stop).dequantize()

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        """Its own codes if the scheme holds them, else rounded ones."""
        if holds(scheme, self.native):
            return self._grid(start, stop).at(scheme)
        return round_rows(self, scheme, rounding, start, stop)

    def _grid(self, start: int, stop: int) -> Grid | FloatGrid:
        try:
            return self.grid(start, stop)
        except ValueError as error:
            raise _unreadable(self.name, error) from None


def round_rows(matrix: Matrix, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
    """Rows start:stop rounded to the scheme; MoedgeError if they hold what has no code."""
    try:
        return rounding(matrix.name, matrix.read(start, stop), scheme)
    except ScaleError as error:
        raise MoedgeError(f"{matrix.name} cannot be quantized ({error}): use --scale-dtype float8.") from None
    except ValueError as error:
        raise MoedgeError(f"{matrix.name} cannot be quantized ({error}): take another checkpoint.") from None


def row_chunks(matrix: Matrix, together: int = 1) -> Iterator[tuple[int, int]]:
    """Row ranges of about 4 MiB of fp32, in order; each holds a multiple of `together` rows."""
    rows, columns = matrix.shape
    step = max(1, _CHUNK_BYTES // (4 * columns * together)) * together
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _unreadable(name: str, error: ValueError) -> MoedgeError:
    return MoedgeError(f"{name} cannot be read ({error}): take another checkpoint.")
