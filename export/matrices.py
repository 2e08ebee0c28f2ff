"""Matrices of a checkpoint as values that are read a few rows at a time: stored, stacked, or with rows reordered.

A matrix may be natively quantized; then it also gives its codes, unchanged. No matrix holds its weights in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint import Checkpoint
from moedge.quant.blocks import Codes, dequantize
from moedge.quant.compressed_tensors import codes_from_packed
from moedge.quant.scheme import BLOCKS

F32 = NDArray[np.float32]
_CHUNK_BYTES = 4 << 20  # what a core's cache holds: quantizing 32 MiB at a time took twice as long


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

    def read(self, start: int, stop: int) -> F32:
        """Rows start:stop as fp32."""
        ...

    @property
    def native_block(self) -> int | None:
        """The block of its own int4 codes, or None when it is stored as floating point."""
        ...

    def read_codes(self, start: int, stop: int) -> Codes:
        """Rows start:stop of its own codes; only where `native_block` is set."""
        ...


@dataclass(frozen=True)
class Stored:
    """`<name>.weight`, or `<name>.weight_packed` of compressed-tensors: what is there decides.

    MoedgeError if what is there is not of the `shape` that the config says.
    """

    checkpoint: Checkpoint
    name: str
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if not self._packed:
            self.checkpoint.expect(f"{self.name}.weight", *self.shape)
            return
        rows, columns = self.shape
        self.checkpoint.expect(f"{self.name}.weight_packed", rows, columns // 8)
        said = self.checkpoint.read(f"{self.name}.weight_shape").reshape(-1).tolist()
        scales = self.checkpoint.shape(f"{self.name}.weight_scale")
        if said != [rows, columns] or scales not in [(rows, columns // b) for b in BLOCKS if columns % b == 0]:
            raise MoedgeError(
                f"{self.name} has the weight_shape {said} and scales of shape {scales} where the config says "
                f"{self.shape} and moedge reads groups of {', '.join(map(str, BLOCKS))}: it is not supported."
            )

    @property
    def _packed(self) -> bool:
        return f"{self.name}.weight_packed" in self.checkpoint

    @property
    def native_block(self) -> int | None:
        """The group size of compressed-tensors, or None."""
        if not self._packed:
            return None
        return self.shape[1] // self.checkpoint.shape(f"{self.name}.weight_scale")[1]

    def read(self, start: int, stop: int) -> F32:
        """Rows as fp32, dequantized if need be."""
        if self._packed:
            return dequantize(self.read_codes(start, stop))
        return self.checkpoint.read_float(f"{self.name}.weight", start, stop)

    def read_codes(self, start: int, stop: int) -> Codes:
        """Rows of the codes, as published."""
        packed = self.checkpoint.read(f"{self.name}.weight_packed", start, stop)
        scales = self.checkpoint.read_float(f"{self.name}.weight_scale", start, stop)
        try:
            return codes_from_packed(packed, scales, (stop - start, self.shape[1]))
        except ValueError as error:
            raise MoedgeError(f"{self.name} cannot be read ({error}): download it again.") from None


@dataclass(frozen=True)
class Stacked:
    """Matrices of equal width, one above the other: one product instead of several."""

    parts: tuple[Matrix, ...]

    @property
    def name(self) -> str:
        """Those of all parts."""
        return ", ".join(part.name for part in self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all parts together, columns of each."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    @property
    def native_block(self) -> int | None:
        """Their block if all have the same, else None: then they are stacked as fp32."""
        blocks = {part.native_block for part in self.parts}
        return blocks.pop() if len(blocks) == 1 else None

    def read(self, start: int, stop: int) -> F32:
        """Rows as fp32."""
        return np.concatenate([part.read(a, b) for part, a, b in self._cut(start, stop)])

    def read_codes(self, start: int, stop: int) -> Codes:
        """Rows of the parts' own codes."""
        pieces = [part.read_codes(a, b) for part, a, b in self._cut(start, stop)]
        codes = np.concatenate([p.codes for p in pieces])
        return Codes(codes, np.concatenate([p.scales for p in pieces]), None, pieces[0].bits, pieces[0].block)

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
    """A matrix with its rows in another order: row i is row order[i] of the source."""

    source: Matrix
    order: NDArray[np.int64]

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, int]:
        """That of the source."""
        return self.source.shape

    @property
    def native_block(self) -> int | None:
        """That of the source."""
        return self.source.native_block

    def read(self, start: int, stop: int) -> F32:
        """Rows as fp32; reads the span of the source that they lie in."""
        order = self.order[start:stop]
        low = int(order.min())
        return self.source.read(low, int(order.max()) + 1)[order - low]

    def read_codes(self, start: int, stop: int) -> Codes:
        """Rows of the source's codes."""
        order = self.order[start:stop]
        low = int(order.min())
        span = self.source.read_codes(low, int(order.max()) + 1)
        return Codes(span.codes[order - low], span.scales[order - low], None, span.bits, span.block)


def stack(parts: Sequence[Matrix]) -> Matrix:
    """The parts as one matrix."""
    return parts[0] if len(parts) == 1 else Stacked(tuple(parts))


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
