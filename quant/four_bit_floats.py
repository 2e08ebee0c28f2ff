"""Four-bit floats E2M1 and the eight-bit scales of their blocks: MXFP4 and NVFP4 (OCP Microscaling 1.0, and NVIDIA's).

    weight[n, k] = E2M1(code[n, k]) * scale[n, k // B] * factor
    E2M1, codes 0 … 7: 0, 1/2, 1, 3/2, 2, 3, 4, 6; with bit 3 set the same, negative
    mxfp4: B = 32, a scale is a power of two (E8M0), factor 1
    nvfp4: B = 16, a scale is an E4M3 from 2^-9 to 448, factor one for all of a matrix: powers of two where we choose it
Numbers and scales alone; whole matrices are blocks.py's.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moedge.quant.scheme import Scheme

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

LARGEST = np.float32(6)
NUMBERS: F32 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_TINY = np.float32(1e-30)
_CODES_OF_TWICE = np.array([0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7], np.uint8)  # by twice the magnitude
_LEAST_EXPONENT, _LARGEST_EXPONENT = -127, 127  # of E8M0
_TOP_EXPONENT = 8  # of E4M3: a matrix's largest scale comes to lie in the octave below, so that a search has room above
# Candidates of a search, in numbers of the scale's type from the one that the block's range gives: up to where its
# largest weight becomes 4 instead of 6, and down to where it is cut by a third.
_E8M0_STEPS = (-1, 0, 1)
_E4M3_STEPS = tuple(range(-6, 7))


def _e4m3() -> F32:
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    values: NDArray[np.float64] = np.where(exponent > 0, normal, np.ldexp(mantissa / 8, -6))
    values *= np.where(byte & 128, -1, 1)
    values[byte & 127 == 127] = np.nan
    return values.astype(np.float32)


E4M3 = _e4m3()  # by byte: see formats/fp8.py
_POSITIVE = E4M3[1:127]  # ascending


def nearest_number(values: F32) -> F32:
    """The numbers of E2M1 nearest to these, of two equally near ones the even code's; beyond 6, 6."""
    size = np.abs(values)
    step = np.where(size < 2, np.float32(0.5), np.where(size < 4, np.float32(1), np.float32(2)))
    rounded: F32 = np.clip(np.rint(values / step) * step, -LARGEST, LARGEST)
    return rounded


def codes_of(numbers: F32) -> U8:
    """The codes of numbers of E2M1, one a byte; zero is never negative."""
    codes = _CODES_OF_TWICE[(np.abs(numbers) * 2).astype(np.uint8)]
    codes[numbers < 0] |= 8
    return codes


def suit(scheme: Scheme, largest: float) -> Scheme:
    """The scheme with a factor, a power of two, for a matrix whose largest magnitude that is; others have none."""
    if scheme.scales != "float8e4m3fn" or not largest:
        return scheme
    _, exponent = np.frexp(np.float32(largest) / LARGEST)
    return replace(scheme, factor=float(np.ldexp(1.0, int(exponent) - _TOP_EXPONENT)))


def factor_of(scheme: Scheme) -> np.float32:
    """The scheme's factor; AssertionError if each matrix has its own."""
    if scheme.factor is None:
        raise AssertionError(f"{scheme.name} is what was published: nothing is rounded to it")
    return np.float32(scheme.factor)


def spread_scales(blocks: F32, scheme: Scheme) -> F32:
    """The scales of blocks [..., B] whose ranges they hold: E8M0 no less than it takes, E4M3 the nearest one.

    A block of zeros has the scale 1. ValueError for NaN and infinity.
    """
    if not np.isfinite(blocks).all():
        raise ValueError("NaN and infinity have no code")
    wanted = np.abs(blocks).max(-1) / (LARGEST * factor_of(scheme))
    if scheme.scales == "float8e8m0":
        part, exponent = np.frexp(wanted)
        exponent = exponent - (part == 0.5)
        held = np.ldexp(np.float32(1), np.clip(exponent, _LEAST_EXPONENT, _LARGEST_EXPONENT))
    else:
        held = _POSITIVE[np.searchsorted((_POSITIVE[1:] + _POSITIVE[:-1]) / 2, wanted)]
    return np.where(wanted == 0, np.float32(1), held).astype(np.float32)


def find_scales(blocks: F32, importance: F32, scheme: Scheme) -> F32:
    """The scale a block of [N, G, B], of some around its range's, that leaves the least squared error.

    An error counts as its column in `importance` [G, B] does. ValueError for NaN and infinity.
    """
    importance = importance / np.maximum(importance.mean(-1, keepdims=True), _TINY) + np.float32(1e-3)
    middle = spread_scales(blocks, scheme)
    best, least = middle, np.full(middle.shape, np.inf, np.float32)
    for step in _E8M0_STEPS if scheme.scales == "float8e8m0" else _E4M3_STEPS:
        tried = _move(middle, step, scheme)
        effective = (tried * factor_of(scheme))[..., None]
        error = nearest_number(blocks / effective)
        error *= effective
        error -= blocks
        error *= error
        total = np.einsum("ngb,gb->ng", error, importance)
        better = total < least
        best, least = np.where(better, tried, best), np.where(better, total, least)
    return best


def _move(scales: F32, step: int, scheme: Scheme) -> F32:
    """The scales so many numbers of their type further."""
    if scheme.scales == "float8e8m0":
        exponent = np.clip(np.frexp(scales)[1] - 1 + step, _LEAST_EXPONENT, _LARGEST_EXPONENT)
        powers: F32 = np.ldexp(np.float32(1), exponent)
        return powers
    moved: F32 = _POSITIVE[np.clip(np.searchsorted(_POSITIVE, scales) + step, 0, len(_POSITIVE) - 1)]
    return moved
