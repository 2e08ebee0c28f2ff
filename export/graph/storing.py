"""A matrix of the checkpoint becomes tensors of the bundle: fp32, freshly quantized codes, or its own codes unchanged.

The `if` and the `fused` plan share them, and differ in the operator that reads them; tiled.py is for the native one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.matrix import Matrix, row_chunks
from moedge.export.graph.builder import Builder
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import F32, Codes, row_factors
from moedge.quant.four_bit_floats import suit
from moedge.quant.grids import holds, joint_scheme, rename_scheme
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import FP32, ScaleType, Scheme
from moedge.runtime.manifest import GroupName

SCALE_TYPES: Mapping[ScaleType, ir.DataType] = {
    "float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16,
    "float8": ir.DataType.FLOAT8E4M3FN, "float8e4m3fn": ir.DataType.FLOAT8E4M3FN,
    "float8e8m0": ir.DataType.FLOAT8E8M0,
}  # fmt: skip
FACTORS = ir.DataType.BFLOAT16


class Room(Protocol):
    """A place in the weights file for a matrix, which comes a few rows at a time."""

    @property
    def regions(self) -> tuple[Region, ...]:
        """What it is made of; each holds as many bytes for every row."""
        ...

    def suit(self, matrix: Matrix) -> "Room":
        """The room made ready for a matrix: what is one value for all of it is known then."""
        ...

    def encode(self, matrix: Matrix, rounding: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Rows start:stop of the matrix that it is ready for as they are kept here, an array a region."""
        ...


@dataclass(frozen=True)
class StoredCodes:
    """Codes as in quant/blocks.py, [..., rows, bytes]; before the rows there may be experts.

    Those of 5 and 6 bits have their upper bits in `upper`. `factors` [..., rows, 1] are those of scales in float8,
    `matrix_factors` [experts] those of experts in nvfp4.
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
    matrix_factors: Region | None

    @property
    def regions(self) -> tuple[Region, ...]:
        """What has rows: codes, scales and what else there is."""
        parts = self.codes, self.upper, self.scales, self.factors, self.zero_points
        return tuple(part for part in parts if part is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        others = () if self.matrix_factors is None else (self.matrix_factors,)
        return sum(region.nbytes for region in (*self.regions, *others))

    def suit(self, matrix: Matrix) -> "StoredCodes":
        """With the factor, if the scheme has one and what is rounded to it is to have a common one."""
        return replace(self, scheme=suit_scheme(self.scheme, matrix))

    def encode(self, matrix: Matrix, rounding: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Its own codes or rounded ones."""
        return self.keep(matrix.codes(self.scheme, rounding, start, stop))

    def keep(self, coded: Codes) -> tuple[NDArray[Any], ...]:
        """Codes as they are kept here; without room for a matrix's factor, its scales are multiplied by it."""
        codes, scales, *zeros = coded.arrays
        if self.matrix_factors is None:
            scales = scales * np.float32(coded.factor)
        factors = row_factors(scales) if self.factors is not None else np.ones((len(scales), 1), np.float32)
        kept = (scales / factors).astype(self.scales.tensor.dtype.numpy())
        if not np.array_equal(kept.astype(np.float32) * factors, scales):
            raise AssertionError(f"{self.name} has scales that are not {self.scheme.scales}")
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

    def suit(self, _: Matrix) -> "StoredFloats":
        """As it is."""
        return self

    def encode(self, matrix: Matrix, _: Rounding, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Rows as fp32, which nothing rounds."""
        return (read_finite(matrix, start, stop),)


def scheme_for(matrices: Sequence[Matrix], wanted: Scheme, what: str, notes: list[str], floats: bool = False) -> Scheme:
    """The scheme that these matrices get together: one that holds all their own codes, else the wanted one, fitted.

    Scales of published codes stay what they are, unless all are wanted as fp32; what those of other codes beside them
    are kept in holds them too. `floats`: the kernel that multiplies them reads four-bit floats.
    Whatever differs from what was wanted goes into `notes`.
    """
    if not wanted.quantized:
        return wanted
    sources = [source for matrix in matrices for source in matrix.sources]
    one_factor = all(len({s.native.factor for s in m.sources if s.native}) == 1 for m in matrices)
    if native := joint_scheme([s.native for s in sources], [s.columns for s in sources], floats and one_factor):
        return rename_scheme(native.with_scales("float32") if wanted.scales == "float32" else native, "published")
    if wanted.numbers == "floats" and not floats:
        raise MoedgeError(
            f"{what} cannot have {wanted.name}, which only the kernel of routed experts reads: use --scheme int4 "
            f"--group routed-experts={wanted.name}."
        )
    try:
        fitted = wanted.fit(*(m.shape[1] for m in matrices))
    except ValueError as error:
        other = "--group routed-experts=int4" if wanted.numbers == "floats" else "--scheme fp32"
        raise MoedgeError(f"{what} cannot be quantized ({error}): use {other}.") from None
    if fitted.block != wanted.block:
        sizes = " and ".join(str(k) for k in sorted({m.shape[1] for m in matrices}))
        notes.append(f"{what}: block {fitted.block} instead of {wanted.block}, for input dimensions of {sizes}")
    exact = fitted.with_scales("float32")
    return exact if any(holds(exact, s.native) and not holds(fitted, s.native) for s in sources) else fitted


def suit_scheme(scheme: Scheme, matrix: Matrix) -> Scheme:
    """The scheme with the factor that a matrix rounded to it has; one that has none, or is as published, as it is."""
    if scheme.scales != "float8e4m3fn" or scheme.factor is None:
        return scheme
    return suit(scheme, max(float(np.abs(matrix.read(*rows)).max()) for rows in row_chunks(matrix)))


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
    """Room for codes of that shape, which come from `matrices`; of as many `experts` one after the other.

    Only the kernel of experts reads the scales of four-bit floats: others have them as fp32.
    """
    (rows, columns), region, kept = shape, builder.weights.region, scheme if experts else scheme.plain
    every, blocks = (*experts, rows), columns // scheme.block
    upper = factors = zeros = matrix_factors = None
    if scheme.bits != scheme.kernel_bits:
        codes = region(f"{name}.codes", ir.DataType.UINT8, (*every, columns // 2))
        upper = region(f"{name}.upper_codes", ir.DataType.UINT8, (*every, columns * (scheme.bits - 4) // 8))
    elif experts:
        codes = region(f"{name}.codes", ir.DataType.UINT8, (*every, columns * scheme.bits // 8))
    else:  # MatMulNBits' shape
        codes = region(f"{name}.codes", ir.DataType.UINT8, (rows, blocks, scheme.block * scheme.bits // 8))
    scales = region(f"{name}.scales", SCALE_TYPES[kept.scales], (*every, blocks))
    if kept.scales == "float8":
        factors = region(f"{name}.row_scales", FACTORS, (*every, 1))
    if kept.scales == "float8e4m3fn":
        matrix_factors = region(f"{name}.factors", ir.DataType.FLOAT, experts)
    if scheme.zero_point:
        zeros = region(f"{name}.zero_points", ir.DataType.UINT8, (*every, blocks * scheme.zero_bits // 8))
    together = int(np.prod(every)), columns
    stored = StoredCodes(name, codes, upper, scales, factors, zeros, scheme, together, group, matrix_factors)
    builder.weights.account.add(group, kept, together[0] * columns, stored.nbytes, matrices)
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
    suited = rooms[0].suit(matrix)
    for start, stop in row_chunks(matrix, len(rooms)):
        arrays = suited.encode(matrix, rounding, start, stop)
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
