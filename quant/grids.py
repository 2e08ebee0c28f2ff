"""Grids of codes that others chose: which scheme holds one without a change, and the grid written in that scheme.

A published group may be longer than a kernel's block, or as long as a row: its scale and zero point then stand for
several blocks, and no code changes. `blocks.py` has the layout of codes; the formats' files turn tensors into a `Grid`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8, Codes, pack, unpack
from moedge.quant.scheme import BLOCKS, Scheme, scheme_of


@dataclass(frozen=True)
class Grid:
    """A quantized matrix [N, K] as its publisher grouped it, in G groups along K:

        weight[n, k] = (code[n, k] - zeros[n, g]) * scales[n, g],    g = group_of[k], or k // (K / G) if that is None

    Codes are packed as in blocks.py [N, K * bits / 8]. Zeros are one a byte; None stands for the middle of the codes,
    8 where they have 4 bits and 128 where they have 8. ValueError if the shapes do not belong together, if a scale is
    not finite, or if `group_of` holds a number that is not from 0 to G - 1.
    """

    codes: U8
    scales: F32  # [N, G]
    zeros: U8 | None  # [N, G]
    bits: int
    group_of: NDArray[np.int64] | None = None  # [K]

    def __post_init__(self) -> None:
        rows, columns, groups = *self.shape, self.scales.shape[-1]
        zeros = self.scales.shape if self.zeros is None else self.zeros.shape
        if self.scales.shape != (rows, groups) or zeros != (rows, groups):
            raise ValueError(f"scales {self.scales.shape} and zero points {zeros} are not those of {rows} rows")
        if self.group_of is None and columns % groups:
            raise ValueError(f"{columns} columns are not {groups} groups of one size")
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
        return Grid(self.codes[start:stop], self.scales[start:stop], zeros, self.bits, self.group_of)

    def dequantize(self) -> F32:
        """The fp32 matrix [N, K]."""
        rows, columns = self.shape
        middle = np.float32(1 << (self.bits - 1))
        codes = unpack(self.codes, self.bits).astype(np.float32)
        if self.group_of is not None:
            codes -= middle if self.zeros is None else self.zeros.astype(np.float32)[:, self.group_of]
            codes *= self.scales[:, self.group_of]
            return codes
        blocks = codes.reshape(rows, self.scales.shape[1], -1)  # [N, G, K / G]
        blocks -= middle if self.zeros is None else self.zeros.astype(np.float32)[..., None]
        blocks *= self.scales[..., None]
        return blocks.reshape(rows, columns)

    def at(self, scheme: Scheme) -> Codes:
        """The same matrix in a scheme that holds its grid (`holds`), every code and scale as it is."""
        columns = self.shape[1]
        times = columns // scheme.block // self.scales.shape[1]
        shift = (1 << (scheme.bits - 1)) - (1 << (self.bits - 1))
        codes = self.codes if scheme.bits == self.bits else unpack(self.codes, self.bits) + np.uint8(shift)
        zeros = None
        if scheme.zero_point:
            middle = np.full(self.scales.shape, 1 << (self.bits - 1), np.uint8)
            zeros = (middle if self.zeros is None else self.zeros) + np.uint8(shift)
            zeros = pack(np.repeat(zeros, times, axis=1), scheme.bits)
        scales = self.scales if times == 1 else np.repeat(self.scales, times, axis=1)
        return Codes(codes, scales, zeros, scheme.bits, scheme.block)


@cache
def native_scheme(bits: int, columns: int, groups: int, zero_point: bool) -> Scheme | None:
    """The scheme of the largest blocks that holds a grid of so many groups; None if no block divides a group."""
    if columns % groups:
        return None
    for block in (b for b in BLOCKS if columns // groups % b == 0):
        # four-bit zero points are packed in pairs
        if not (zero_point and bits == 4 and columns // block % 2):
            return scheme_of(bits, block, zero_point)
    return None


def holds(scheme: Scheme, native: Scheme | None) -> bool:
    """Whether codes of the native scheme can be written in `scheme` without rounding any."""
    return (
        native is not None
        and scheme.quantized
        and native.bits <= scheme.bits
        and native.block % scheme.block == 0
        and (scheme.zero_point or not native.zero_point)
    )


def joint_scheme(natives: Sequence[Scheme | None], columns: Sequence[int]) -> Scheme | None:
    """The leanest scheme that holds the grids of matrices of so many columns; None if one has none, or none does."""
    known = [native for native in natives if native is not None]
    if not known or len(known) < len(natives):
        return None
    joint = scheme_of(max(n.bits for n in known), min(n.block for n in known), any(n.zero_point for n in known))
    try:
        return joint.fit(*columns)
    except ValueError:
        return None


def words_to_bytes(words: NDArray[np.int32]) -> U8:
    """int32 words [..., n] as their bytes [..., 4 n], the lowest first: codes packed from the lowest bit, in order."""
    return np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)


def in_order(group_of: NDArray[np.integer], columns: int, groups: int) -> bool:
    """Whether a g_idx says no more than that column k belongs to group k // (columns / groups)."""
    if columns % groups or group_of.shape != (columns,):
        return False
    return bool(np.array_equal(group_of, np.arange(columns) // (columns // groups)))


def rename_scheme(scheme: Scheme, suffix: str) -> Scheme:
    """The same scheme with a word after its name."""
    return replace(scheme, name=f"{scheme.name} ({suffix})")


def _within(group_of: NDArray[np.int64], columns: int, groups: int) -> bool:
    return group_of.shape == (columns,) and bool(((group_of >= 0) & (group_of < groups)).all())
