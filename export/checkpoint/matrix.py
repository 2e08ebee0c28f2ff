"""Matrices of a checkpoint as values that are read a few rows at a time: rounded, as codes, stacked, reordered, picked.

A matrix may come as codes of its own; they stay as they are wherever the scheme holds them. No matrix keeps its weights
in memory. How each published format is read stands in modules.py and the files that it names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.quant.blocks import F32, Codes, quantize
from moedge.quant.grids import Grid, holds
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

    def codes(self, scheme: Scheme, start: int, stop: int) -> Codes:
        """Rows start:stop in a scheme: its own codes where the scheme holds them, else rounded ones."""
        ...


@dataclass(frozen=True)
class Rounded:
    """A matrix without codes that a kernel reads: it is read as fp32 and rounded."""

    name: str
    shape: tuple[int, int]
    format: str
    quantized: bool
    rows: Callable[[int, int], F32]  # ValueError if they cannot be read

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Source(self.format, self.quantized, self.shape[0] * self.shape[1], self.shape[1]),)

    def read(self, start: int, stop: int) -> F32:
        try:
            return self.rows(start, stop)
        except ValueError as error:
            raise _unreadable(self.name, error) from None

    def codes(self, scheme: Scheme, start: int, stop: int) -> Codes:
        return round_rows(self, scheme, start, stop)


@dataclass(frozen=True)
class Coded:
    """A matrix that comes as integer codes."""

    name: str
    shape: tuple[int, int]
    format: str
    native: Scheme | None  # None: no scheme of ours holds its grid
    grid: Callable[[int, int], Grid]  # of some rows; ValueError if they cannot be read

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Source(self.format, True, self.shape[0] * self.shape[1], self.shape[1], self.native),)

    def read(self, start: int, stop: int) -> F32:
        return self._grid(start, stop).dequantize()

    def codes(self, scheme: Scheme, start: int, stop: int) -> Codes:
        if holds(scheme, self.native):
            return self._grid(start, stop).at(scheme)
        return round_rows(self, scheme, start, stop)

    def _grid(self, start: int, stop: int) -> Grid:
        try:
            return self.grid(start, stop)
        except ValueError as error:
            raise _unreadable(self.name, error) from None


@dataclass(frozen=True)
class Stacked:
    """Matrices of equal width, one above the other: one product instead of several."""

    parts: tuple[Matrix, ...]

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for part in self.parts for source in part.sources)

    def read(self, start: int, stop: int) -> F32:
        return np.concatenate([part.read(a, b) for part, a, b in self._cut(start, stop)])

    def codes(self, scheme: Scheme, start: int, stop: int) -> Codes:
        pieces = [part.codes(scheme, a, b) for part, a, b in self._cut(start, stop)]
        zeros = [p.zero_points for p in pieces if p.zero_points is not None]
        return Codes(
            np.concatenate([p.codes for p in pieces]),
            np.concatenate([p.scales for p in pieces]),
            np.concatenate(zeros) if zeros else None,
            scheme.bits,
            scheme.block,
        )

    def _cut(self, start: int, stop: int) -> Iterator[tuple[Matrix, int, int]]:
        offset = 0
        for part in self.parts:
            rows = part.shape[0]
            a, b = max(start - offset, 0), min(stop - offset, rows)
            if a < b:
                yield part, a, b
            offset += rows


@dataclass(frozen=True, eq=False)
class Reordered:
    """Rows of a matrix in another order, or only some of them: row i is row order[i] of the source."""

    source: Matrix
    order: NDArray[np.int64]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.order), self.source.shape[1]

    @property
    def sources(self) -> tuple[Source, ...]:
        """That of the source, as large as the rows that are taken."""
        rows, of = self.shape[0], self.source.shape[0]
        return tuple(replace(source, parameters=source.parameters * rows // of) for source in self.source.sources)

    def read(self, start: int, stop: int) -> F32:
        """Rows as fp32; reads the span of the source that they lie in."""
        order, low, high = self._span(start, stop)
        return self.source.read(low, high)[order]

    def codes(self, scheme: Scheme, start: int, stop: int) -> Codes:
        """Rows of the source's codes; what must be rounded is so after the rows are chosen."""
        if not any(holds(scheme, source.native) for source in self.source.sources):
            return round_rows(self, scheme, start, stop)
        order, low, high = self._span(start, stop)
        span = self.source.codes(scheme, low, high)
        zeros = None if span.zero_points is None else span.zero_points[order]
        return Codes(span.codes[order], span.scales[order], zeros, span.bits, span.block)

    def _span(self, start: int, stop: int) -> tuple[NDArray[np.int64], int, int]:
        order = self.order[start:stop]
        low = int(order.min())
        return order - low, low, int(order.max()) + 1


def stack(parts: Sequence[Matrix]) -> Matrix:
    """The parts as one matrix."""
    return parts[0] if len(parts) == 1 else Stacked(tuple(parts))


def pick_rows(matrix: Matrix, start: int, stop: int, step: int = 1) -> Matrix:
    """Rows start:stop:step of a matrix."""
    return Reordered(matrix, np.arange(start, stop, step))


def round_rows(matrix: Matrix, scheme: Scheme, start: int, stop: int) -> Codes:
    """Rows start:stop rounded to the scheme; MoedgeError if they hold what has no code."""
    try:
        return quantize(matrix.read(start, stop), scheme)
    except ValueError as error:
        raise MoedgeError(f"{matrix.name} cannot be quantized ({error}): download it again.") from None


def row_chunks(matrix: Matrix) -> Iterator[tuple[int, int]]:
    """Row ranges of about 4 MiB of fp32, in order."""
    rows, columns = matrix.shape
    step = max(1, _CHUNK_BYTES // (4 * columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def halves_order(heads: int, plain: int, rotary: int) -> NDArray[np.int64]:
    """Row order that turns interleaved rotary pairs into halves, for each head's `plain` rows and `rotary` rows after.

    [x0, x1, x2, x3 …] becomes [x0, x2, …, x1, x3, …]: rotating halves then equals rotating neighbours.
    """
    inner = np.concatenate([np.arange(plain), plain + np.arange(0, rotary, 2), plain + np.arange(1, rotary, 2)])
    order: NDArray[np.int64] = (np.arange(heads)[:, None] * (plain + rotary) + inner).reshape(-1)
    return order


def _unreadable(name: str, error: ValueError) -> MoedgeError:
    return MoedgeError(f"{name} cannot be read ({error}): download it again.")
