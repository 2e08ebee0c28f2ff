"""Matrices made of others, a few rows at a time: stacked, reordered, rows in turn, some of the rows, or scaled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix, Source, round_rows
from moedge.quant.blocks import F32, Codes, interleave_rows, join_matrices
from moedge.quant.grids import holds
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme

_SHORTEST_SPAN = 8  # rows that are worth reading by themselves


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

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        """Rows of the parts' codes, each its own or rounded."""
        pieces = [part.codes(scheme, rounding, a, b) for part, a, b in self._cut(start, stop)]
        return join_matrices(pieces, np.concatenate)

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
        """Rows as fp32; reads the spans of the source that they lie in."""
        spans, place = self._spans(start, stop)
        return np.concatenate([self.source.read(low, high) for low, high in spans])[place]

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        """Rows of the source's codes; what must be rounded is so after the rows are chosen."""
        if not any(holds(scheme, source.native) for source in self.source.sources):
            return round_rows(self, scheme, rounding, start, stop)
        spans, place = self._spans(start, stop)
        pieces = [self.source.codes(scheme, rounding, low, high) for low, high in spans]
        return join_matrices(pieces, np.concatenate).rows(place)

    def _spans(self, start: int, stop: int) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
        """Spans of the source that hold the rows, and where in them each is; what many short ones leave out is read."""
        order = self.order[start:stop]
        rows = np.unique(order)
        [gaps] = np.nonzero(np.diff(rows) > 1)
        if len(gaps) * _SHORTEST_SPAN > len(rows):
            low = int(rows[0])
            return [(low, int(rows[-1]) + 1)], order - low
        parts = np.split(rows, gaps + 1)
        return [(int(part[0]), int(part[-1]) + 1) for part in parts], np.searchsorted(rows, order)


@dataclass(frozen=True)
class Interleaved:
    """Rows of two matrices of one shape in turn: first0, second0, first1, second1, …"""

    first: Matrix
    second: Matrix

    @property
    def name(self) -> str:
        return f"{self.first.name}, {self.second.name}"

    @property
    def shape(self) -> tuple[int, int]:
        return 2 * self.first.shape[0], self.first.shape[1]

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*self.first.sources, *self.second.sources)

    def read(self, start: int, stop: int) -> F32:
        first, second = (part.read(start // 2, -(-stop // 2)) for part in (self.first, self.second))
        return interleave_rows(first, second)[start % 2 :][: stop - start]

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        """Rows of the codes of both, each its own or rounded."""
        low, high = start // 2, -(-stop // 2)
        both = [part.codes(scheme, rounding, low, high) for part in (self.first, self.second)]
        joined = join_matrices(both, lambda arrays: interleave_rows(*arrays))
        return joined.rows(slice(start % 2, start % 2 + stop - start))


@dataclass(frozen=True, eq=False)
class Scaled:
    """A matrix times a factor a row and a factor a column; it has no codes of its own any more."""

    source: Matrix
    by_row: F32 | None
    by_column: F32 | None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(replace(source, native=None) for source in self.source.sources)

    def read(self, start: int, stop: int) -> F32:
        weights = self.source.read(start, stop)
        if self.by_row is not None:
            weights = weights * self.by_row[start:stop, None]
        return weights if self.by_column is None else weights * self.by_column

    def codes(self, scheme: Scheme, rounding: Rounding, start: int, stop: int) -> Codes:
        return round_rows(self, scheme, rounding, start, stop)


def scale_matrix(matrix: Matrix, by_row: F32 | None, by_column: F32 | None) -> Matrix:
    """The matrix times factors [rows] and [columns]; the parts of a stack stay matrices of their own."""
    if isinstance(matrix, Stacked):
        ends = np.cumsum([part.shape[0] for part in matrix.parts])[:-1]
        rows = [None] * len(matrix.parts) if by_row is None else np.split(by_row, ends)
        return Stacked(tuple(scale_matrix(part, row, by_column) for part, row in zip(matrix.parts, rows, strict=True)))
    if isinstance(matrix, Interleaved):
        first, second = (None, None) if by_row is None else (by_row[::2], by_row[1::2])
        return Interleaved(scale_matrix(matrix.first, first, by_column), scale_matrix(matrix.second, second, by_column))
    return Scaled(matrix, by_row, by_column)


def stack(parts: Sequence[Matrix]) -> Matrix:
    """The parts as one matrix."""
    return parts[0] if len(parts) == 1 else Stacked(tuple(parts))


def names_of(matrix: Matrix) -> tuple[str, ...]:
    """The names of the checkpoint's matrices that it is made of: those that a rounding hears."""
    match matrix:
        case Stacked(parts):
            return tuple(name for part in parts for name in names_of(part))
        case Interleaved(first, second):
            return (*names_of(first), *names_of(second))
        case Reordered(source, _):
            return names_of(source)
    return (matrix.name,)


def pick_rows(matrix: Matrix, start: int, stop: int, step: int = 1) -> Matrix:
    """Rows start:stop:step of a matrix."""
    return Reordered(matrix, np.arange(start, stop, step))


def in_turn(gate_up: Sequence[Matrix]) -> Matrix:
    """Rows gate0, up0, gate1, up1, … of a gate and an up-projection, or of one matrix: gate rows before up rows."""
    if len(gate_up) == 2:
        return Interleaved(*gate_up)
    [joint] = gate_up
    rows = joint.shape[0]
    return Interleaved(pick_rows(joint, 0, rows // 2), pick_rows(joint, rows // 2, rows))


def halves_order(heads: int, plain: int, rotary: int) -> NDArray[np.int64]:
    """Row order that turns interleaved rotary pairs into halves, for each head's `plain` rows and `rotary` rows after.

    [x0, x1, x2, x3 …] becomes [x0, x2, …, x1, x3, …]: rotating halves then equals rotating neighbours.
    """
    inner = np.concatenate([np.arange(plain), plain + np.arange(0, rotary, 2), plain + np.arange(1, rotary, 2)])
    order: NDArray[np.int64] = (np.arange(heads)[:, None] * (plain + rotary) + inner).reshape(-1)
    return order
