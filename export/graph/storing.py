"""A matrix of the checkpoint becomes tensors of the bundle: fp32, freshly quantized codes, or its own codes unchanged.

Both lowerings share the codes; they differ in the operator that reads them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.matrix import Matrix, row_chunks
from moedge.export.graph.builder import Builder
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import F32, row_factors
from moedge.quant.grids import holds, joint_scheme, rename_scheme
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import FP32, ScaleType, Scheme
from moedge.runtime.manifest import GroupName

SCALE_TYPES: Mapping[ScaleType, ir.DataType] = {
    "float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16,
    "float8": ir.DataType.FLOAT8E4M3FN,
}  # fmt: skip
FACTORS = ir.DataType.BFLOAT16


class Room(Protocol):
    """A place in the weights file for a matrix, which comes a few rows at a time."""

    @property
    def regions(self) -> tuple[Region, ...]:
        """What it is made of; each holds as many bytes for every row."""
        ...

    def encode(self, matrix: Matrix, rounding: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Rows start:stop of a matrix as they are kept here, an array a region."""
        ...


@dataclass(frozen=True)
class StoredCodes:
    """Codes as in quant/blocks.py, [..., rows, bytes]; before the rows there may be experts.

    Those of 5 and 6 bits have their upper bits in `upper`. `factors` [..., rows, 1] are those of scales in float8.
    """

    name: str
    codes: Region
    upper: Region | None
    scales: Region
    factors: Region | None
    zero_points: Region | None
    scheme: Scheme
    shape: tuple[int, int]
    group: GroupName

    @property
    def regions(self) -> tuple[Region, ...]:
        """Codes, scales and what else there is."""
        parts = self.codes, self.upper, self.scales, self.factors, self.zero_points
        return tuple(part for part in parts if part is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(region.nbytes for region in self.regions)

    def encode(self, matrix: Matrix, rounding: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Its own codes or rounded ones."""
        codes, scales, *zeros = matrix.codes(self.scheme, rounding, start, stop).arrays
        factors = row_factors(scales) if self.factors is not None else np.ones((len(scales), 1), np.float32)
        kept = (scales / factors).astype(SCALE_TYPES[self.scheme.scales].numpy())
        if not np.array_equal(kept.astype(np.float32) * factors, scales):
            raise AssertionError(f"{matrix.name} has scales that are not {self.scheme.scales}")
        self.scales.file.account.note_scales(self.name, scales, self.scheme)
        parted = [codes] if self.upper is None else np.split(codes, [self.shape[1] // 2], axis=1)
        return *parted, kept, *([] if self.factors is None else [factors.astype(FACTORS.numpy())]), *zeros


@dataclass(frozen=True)
class StoredFloats:
    """A matrix of fp32."""

    region: Region

    @property
    def regions(self) -> tuple[Region, ...]:
        return (self.region,)

    def encode(self, matrix: Matrix, _: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Rows as fp32, which nothing rounds."""
        return (read_finite(matrix, start, stop),)


def scheme_for(matrices: Sequence[Matrix], wanted: Scheme, what: str, notes: list[str]) -> Scheme:
    """The scheme that these matrices get together: one that holds all their own codes, else the wanted one, fitted.

    Scales of published codes stay what they are, unless all are wanted as fp32; what those of other codes beside them
    are kept in holds them too.
    Whatever differs from what was wanted goes into `notes`.
    """
    if not wanted.quantized:
        return wanted
    sources = [source for matrix in matrices for source in matrix.sources]
    if native := joint_scheme([s.native for s in sources], [s.columns for s in sources]):
        return rename_scheme(native.with_scales("float32") if wanted.scales == "float32" else native, "native")
    try:
        fitted = wanted.fit(*(m.shape[1] for m in matrices))
    except ValueError as error:
        raise MoedgeError(f"{what} cannot be quantized ({error}): use --scheme fp32.") from None
    if fitted.block != wanted.block:
        sizes = " and ".join(str(k) for k in sorted({m.shape[1] for m in matrices}))
        notes.append(f"{what}: block {fitted.block} instead of {wanted.block}, for input dimensions of {sizes}")
    exact = fitted.with_scales("float32")
    return exact if any(holds(exact, s.native) and not holds(fitted, s.native) for s in sources) else fitted


def read_finite(matrix: Matrix, start: int, stop: int) -> F32:
    """Rows as fp32, for what no scheme rounds; MoedgeError if they hold NaN or infinity."""
    values = matrix.read(start, stop)
    if not np.isfinite(values).all():
        raise MoedgeError(f"{matrix.name} holds NaN or infinity: take another checkpoint.")
    return values


def store_whole(builder: Builder, name: str, matrix: Matrix, group: GroupName) -> ir.Value:
    """A matrix that no scheme rounds, as fp32."""
    return builder.read_matrix(name, matrix.shape, lambda: read_finite(matrix, 0, matrix.shape[0]), group, (matrix,))


def reserve_codes(
    builder: Builder,
    name: str,
    shape: tuple[int, int],
    scheme: Scheme,
    group: GroupName,
    matrices: Sequence[Matrix],
    experts: tuple[int, ...] = (),
) -> StoredCodes:
    """Room for codes of that shape, which come from `matrices`; of as many `experts` one after the other."""
    (rows, columns), region = shape, builder.weights.region
    every, blocks = (*experts, rows), columns // scheme.block
    upper = factors = zeros = None
    if scheme.bits != scheme.kernel_bits:
        codes = region(f"{name}.codes", ir.DataType.UINT8, (*every, columns // 2))
        upper = region(f"{name}.upper_codes", ir.DataType.UINT8, (*every, columns * (scheme.bits - 4) // 8))
    elif experts:
        codes = region(f"{name}.codes", ir.DataType.UINT8, (*every, columns * scheme.bits // 8))
    else:  # MatMulNBits' shape
        codes = region(f"{name}.codes", ir.DataType.UINT8, (rows, blocks, scheme.block * scheme.bits // 8))
    scales = region(f"{name}.scales", SCALE_TYPES[scheme.scales], (*every, blocks))
    if scheme.scales == "float8":
        factors = region(f"{name}.row_scales", FACTORS, (*every, 1))
    if scheme.zero_point:
        zeros = region(f"{name}.zero_points", ir.DataType.UINT8, (*every, blocks * scheme.zero_bits // 8))
    together = int(np.prod(every)), columns
    stored = StoredCodes(name, codes, upper, scales, factors, zeros, scheme, together, group)
    builder.weights.account.add(group, scheme, together[0] * columns, stored.nbytes, matrices)
    return stored


def reserve_floats(
    builder: Builder, name: str, shape: tuple[int, int], group: GroupName, matrices: Sequence[Matrix]
) -> StoredFloats:
    """Room for fp32 of that shape, which comes from `matrices`."""
    region = builder.weights.region(name, ir.DataType.FLOAT, shape)
    builder.weights.account.add(group, FP32, shape[0] * shape[1], region.nbytes, matrices)
    return StoredFloats(region)


def store_rows(matrix: Matrix, rounding: Rounding, *rooms: Room) -> None:
    """Write a matrix a few rows at a time, its rows in turn into each of the rooms, unless an earlier run has."""
    if rooms[0].regions[0].kept:
        return
    for start, stop in row_chunks(matrix, len(rooms)):
        arrays = rooms[0].encode(matrix, rounding, start, stop)
        for place, room in enumerate(rooms):
            write_rows(room, [array[place :: len(rooms)] for array in arrays], start // len(rooms))


def write_rows(room: Room, arrays: Sequence[NDArray[Any]], row: int) -> None:
    """Put rows, encoded, at row `row` of the room and after."""
    for region, array in zip(room.regions, arrays, strict=True):
        region.write(array, row * array.nbytes // len(array))


def store_quantized(
    builder: Builder, name: str, matrix: Matrix, scheme: Scheme, rounding: Rounding, group: GroupName
) -> StoredCodes:
    """Quantize a matrix into the weights file."""
    stored = reserve_codes(builder, name, matrix.shape, scheme, group, (matrix,))
    store_rows(matrix, rounding, stored)
    return stored


def store_floats(builder: Builder, name: str, matrix: Matrix, rounding: Rounding, group: GroupName) -> ir.Value:
    """A matrix as fp32 in the weights file, a few rows at a time."""
    stored = reserve_floats(builder, f"{name}.weight", matrix.shape, group, (matrix,))
    store_rows(matrix, rounding, stored)
    return builder.initializer(stored.region.tensor)
