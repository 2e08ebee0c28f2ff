"""Grids of codes that others chose: which scheme holds one without a change, and the grid written in that scheme.

A published group may be longer than a kernel's block, or as long as a row: its scale and zero point then stand for
several blocks, and no code changes. Twice a four-bit float is a whole number of at most 12, so that eight-bit integers
hold those too, at half the scale. `blocks.py` has the layout of codes; the formats' files turn tensors into grids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8, Codes, dequantize, pack, unpack
from moedge.quant.four_bit_floats import NUMBERS, factor_of
from moedge.quant.scheme import BLOCKS, ScaleType, Scheme, scheme_of

_TWICE = (2 * NUMBERS + 128).astype(np.uint8)
# [256]: the 8-bit codes of both nibbles of a byte, as one value so that a lookup moves both
_PAIRS = _TWICE[np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)].view(np.uint16)[:, 0]


@dataclass(frozen=True)
class Grid:
    """A quantized matrix [N, K] as its publisher grouped it, in G groups along K:

        weight[n, k] = (code[n, k] - zeros[n, g]) * scales[n, g],    g = group_of[k], or k // group if that is None

    A group has `group` columns, the last one what is left; None stands for K / G. Codes are packed as in blocks.py
    [N, K * bits / 8]. Zeros are one a byte; None stands for the middle of the codes, 8 where they have 4 bits and 128
    where they have 8. ValueError if the shapes do not belong together, if a scale is not finite, or if `group_of` holds
    a number that is not from 0 to G - 1.
    """

    codes: U8
    scales: F32  # [N, G]
    zeros: U8 | None  # [N, G]
    bits: int
    group_of: NDArray[np.int64] | None = None  # [K]
    group: int | None = None

    def __post_init__(self) -> None:
        rows, columns, groups = *self.shape, self.scales.shape[-1]
        zeros = self.scales.shape if self.zeros is None else self.zeros.shape
        if self.scales.shape != (rows, groups) or zeros != (rows, groups):
            raise ValueError(f"scales {self.scales.shape} and zero points {zeros} are not those of {rows} rows")
        if self.group_of is None and self.group is None and columns % groups:
            raise ValueError(f"{columns} columns are not {groups} groups of one size")
        if self.group is not None and -(-columns // self.group) != groups:
            raise ValueError(f"{columns} columns are not {groups} groups of {self.group}")
        if self.group_of is not None and not _within(self.group_of, columns, groups):
            raise ValueError(f"not every one of {columns} columns belongs to one of {groups} groups")
        if not np.isfinite(self.scales).all():
            raise ValueError("its scales hold NaN or infinity")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.codes.shape[0], self.codes.shape[1] * 8 // self.bits

    def rows(self, start: int, stop: int) -> "Grid":
        """Rows start:stop of it."""
        zeros = None if self.zeros is None else self.zeros[start:stop]
        return replace(self, codes=self.codes[start:stop], scales=self.scales[start:stop], zeros=zeros)

    def dequantize(self) -> F32:
        """The fp32 matrix [N, K]; infinite where a scale is too large for its codes."""
        with np.errstate(over="ignore"):
            return self._weights()

    def _weights(self) -> F32:
        rows, columns = self.shape
        middle = np.float32(1 << (self.bits - 1))
        codes = unpack(self.codes, self.bits).astype(np.float32)
        group_of = self.group_of
        if group_of is None and columns % self._columns_a_group():
            group_of = np.arange(columns) // self._columns_a_group()
        if group_of is not None:
            codes -= middle if self.zeros is None else self.zeros.astype(np.float32)[:, group_of]
            codes *= self.scales[:, group_of]
            return codes
        blocks = codes.reshape(rows, self.scales.shape[1], -1)  # [N, G, K / G]
        blocks -= middle if self.zeros is None else self.zeros.astype(np.float32)[..., None]
        blocks *= self.scales[..., None]
        return blocks.reshape(rows, columns)

    def at(self, scheme: Scheme) -> Codes:
        """The same matrix in a scheme that holds its grid (`holds`), every code and scale as it is."""
        blocks, group = self.shape[1] // scheme.block, self._columns_a_group()
        group_of = np.arange(blocks) * scheme.block // group  # of each block, none of which lies in two
        shift = (1 << (scheme.bits - 1)) - (1 << (self.bits - 1))
        codes = self.codes
        if scheme.bits != self.bits:
            codes = pack(unpack(self.codes, self.bits) + np.uint8(shift), scheme.bits)
        zeros = None
        if scheme.zero_point:
            middle = np.full(self.scales.shape, 1 << (self.bits - 1), np.uint8)
            zeros = (middle if self.zeros is None else self.zeros) + np.uint8(shift)
            zeros = pack(zeros[:, group_of], scheme.zero_bits)
        scales = self.scales if blocks == self.scales.shape[1] else self.scales[:, group_of]
        return Codes(codes, scales, zeros, scheme.bits, scheme.block)

    def _columns_a_group(self) -> int:
        return self.group or self.shape[1] // self.scales.shape[1]


@dataclass(frozen=True)
class FloatGrid:
    """A matrix [N, K] published as four-bit floats: packed codes [N, K / 2] and scales [N, K / B] in a scheme.

    ValueError if the shapes do not belong together, or if a scale is not finite.
    """

    codes: U8
    scales: F32
    scheme: Scheme  # with the factor that the matrix has

    def __post_init__(self) -> None:
        if (len(self.codes), self.codes.shape[1] * 2) != (len(self.scales), self.scales.shape[1] * self.scheme.block):
            raise ValueError(f"scales {self.scales.shape} are not those of codes {self.codes.shape}")
        if not np.isfinite(self.scales).all() or not np.isfinite(self._factor):
            raise ValueError("its scales hold NaN or infinity")

    def dequantize(self) -> F32:
        """The fp32 matrix [N, K]; infinite where a scale is too large for its codes."""
        with np.errstate(over="ignore"):
            return dequantize(self._as_published())

    def at(self, scheme: Scheme) -> Codes:
        """The same matrix in a scheme that holds its grid (`holds`): every code as it is, or as an integer."""
        if scheme.numbers == "floats":
            return self._as_published()
        halves = self.scales * self._factor * np.float32(0.5)
        return Grid(_PAIRS[self.codes].view(np.uint8), halves, None, 8).at(scheme)

    def _as_published(self) -> Codes:
        return Codes(self.codes, self.scales, None, 4, self.scheme.block, "floats", float(self._factor))

    @property
    def _factor(self) -> np.float32:
        return factor_of(self.scheme)


@cache
def native_scheme(
    bits: int,
    columns: int,
    groups: int,
    zero_point: bool,
    group: int | None = None,
    scales: ScaleType = "float32",
) -> Scheme | None:
    """The scheme of the largest blocks that holds a grid of so many groups; None if no block divides every group.

    `group` is the columns of each but the last, where that one is shorter; None: all have as many.
    `scales` is a type that holds its scales exactly.
    """
    if group is None and columns % groups:
        return None
    group = group or columns // groups
    for block in (b for b in BLOCKS if group % b == 0 and columns % b == 0):
        # four-bit zero points are packed in pairs
        if not (zero_point and bits == 4 and columns // block % 2):
            return scheme_of(bits, block, zero_point, scales)
    return None


def holds(scheme: Scheme, native: Scheme | None) -> bool:
    """Whether codes of the native scheme can be written in `scheme` without rounding any, or any scale."""
    if native is None or not scheme.quantized:
        return False
    if scheme.numbers == "floats":
        same = (native.numbers, native.block) == (scheme.numbers, scheme.block)
        return same and scheme.factor in (None, native.factor)
    native = as_integers(native)
    return (
        native.bits <= scheme.bits
        and native.block % scheme.block == 0
        and (scheme.zero_point or not native.zero_point)
        and scheme.scales in ("float32", native.scales)
    )


def as_integers(native: Scheme) -> Scheme:
    """The scheme of integers that holds a grid of four-bit floats; any other as it is."""
    if native.numbers == "integers":
        return native
    return scheme_of(8, native.block, False, "bfloat16" if native.scales == "float8e8m0" else "float32")


def joint_scheme(natives: Sequence[Scheme | None], columns: Sequence[int], floats: bool = False) -> Scheme | None:
    """The leanest scheme that holds the grids of matrices of so many columns; None if one has none, or none does.

    `floats`: whether it may be one of four-bit floats.
    """
    known = [native for native in natives if native is not None]
    if not known or len(known) < len(natives):
        return None
    first = known[0]
    if floats and {(n.numbers, n.block) for n in known} == {("floats", first.block)}:
        factors = {n.factor for n in known}
        try:
            return replace(first, factor=1.0 if factors == {1.0} else None).fit(*columns)
        except ValueError:
            pass
    known = [as_integers(native) for native in known]
    kept = {n.scales for n in known}
    scales = kept.pop() if len(kept) == 1 else "float32"
    bits, block = max(n.bits for n in known), min(n.block for n in known)
    joint = scheme_of(bits, block, any(n.zero_point for n in known), scales)
    try:
        return joint.fit(*columns)
    except ValueError:
        return None


def words_to_bytes(words: NDArray[np.int32]) -> U8:
    """int32 words [..., n] as their bytes [..., 4 n], the lowest first: codes packed from the lowest bit, in order."""
    return np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)


def find_group(group_of: NDArray[np.integer]) -> int | None:
    """The group for which a g_idx [K] says no more than that column k belongs to group k // group; None if it does."""
    group = int(np.append(group_of != group_of[0], True).argmax())
    return group if np.array_equal(group_of, np.arange(len(group_of)) // group) else None


def rename_scheme(scheme: Scheme, suffix: str) -> Scheme:
    """The same scheme with a word after its name."""
    return replace(scheme, name=f"{scheme.name} ({suffix})")


def _within(group_of: NDArray[np.int64], columns: int, groups: int) -> bool:
    return group_of.shape == (columns,) and bool(((group_of >= 0) & (group_of < groups)).all())
