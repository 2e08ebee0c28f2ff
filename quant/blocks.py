"""Block quantization of matrices: rows of fp32 to packed codes, scales and zero points, and back.

Layout, for a matrix [N, K] in blocks of B along K (what MatMulNBits and QMoE read):
    weight[n, k] = (code[n, k] - zero_point[n, k // B]) * scale[n, k // B]
    8 bits: byte k of a row is code k.     4 bits: byte j of a row is code 2j | code 2j+1 << 4.
Zero points are packed along K // B in the same way. A symmetric scheme stores none: 8 for 4 bits, 128 for 8.

Codes of 5 and 6 bits, which no kernel reads as they are: a row is its codes' lower 4 bits as above, then the upper
ones, 8 or 4 codes a byte, the first one lowest. Their zero points are a byte each.

Codes that are four-bit floats are packed like others of 4 bits; four_bit_floats.py has their formula.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.quant.four_bit_floats import NUMBERS, codes_of, factor_of, nearest_number, spread_scales
from moedge.quant.scheme import Numbers, ScaleType, Scheme

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
LEAST_HALF = np.float32(2.0**-24)  # the least number of fp16, and the distance of those below 2^-14
LARGEST_EIGHT = np.float32(256)  # what the largest scale of a row is kept as in e4m3
LEAST_LARGEST = np.float32(2.0**-100)  # of a row in float8: its least scale is 2^-17 of it, and still a normal number


class ScaleError(ValueError):
    """A scale is too large for the type that it is to be kept in."""


@dataclass(frozen=True)
class Codes:
    """A quantized matrix [N, K]: packed codes [N, K * bits / 8], scales [N, K / B], packed zero points or None.

    Scales are values of the scheme's `scales`, here as fp32.
    """

    codes: U8
    scales: F32
    zero_points: U8 | None
    bits: int
    block: int
    numbers: Numbers = "integers"
    factor: float = 1.0  # of all weights, beside their scales

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Codes, scales and, if there are any, zero points."""
        return (self.codes, self.scales) if self.zero_points is None else (self.codes, self.scales, self.zero_points)

    def rows(self, some: slice | NDArray[np.int64]) -> "Codes":
        """Some of its rows."""
        zeros = None if self.zero_points is None else self.zero_points[some]
        return replace(self, codes=self.codes[some], scales=self.scales[some], zero_points=zeros)


def join_matrices(parts: Sequence[Codes], how: Callable[[Sequence[NDArray[Any]]], NDArray[Any]]) -> Codes:
    """Matrices of one scheme and factor as one, whose rows `how` joins."""
    first = parts[0]
    if {(p.bits, p.block, p.numbers, p.factor) for p in parts} != {
        (first.bits, first.block, first.numbers, first.factor)
    }:
        raise AssertionError("codes of different schemes share no matrix")
    zeros = [p.zero_points for p in parts if p.zero_points is not None]
    codes, scales = how([p.codes for p in parts]), how([p.scales for p in parts])
    return replace(first, codes=codes, scales=scales, zero_points=how(zeros) if zeros else None)


def pack(codes: U8, bits: int) -> U8:
    """Codes [..., K], one a byte, to bytes [..., K * bits / 8]; ValueError if they do not fill whole bytes."""
    if bits == 8:
        return codes
    a_byte = 2 if bits == 4 else 8 // (bits - 4)
    if codes.shape[-1] % a_byte:
        raise ValueError(f"{codes.shape[-1]} codes of {bits} bits do not fill whole bytes")
    if bits > 4:
        return np.concatenate([_join(codes & np.uint8(15), 4), _join(codes >> np.uint8(4), bits - 4)], axis=-1)
    return _join(codes, 4)


def unpack(packed: U8, bits: int) -> U8:
    """The inverse of `pack`."""
    if bits == 8:
        return packed
    if bits > 4:
        low, high = np.split(packed, [packed.shape[-1] * 4 // bits], axis=-1)
        return _part(low, 4) | (_part(high, bits - 4) << np.uint8(4))
    return _part(packed, 4)


def _join(values: U8, bits: int) -> U8:
    """Values [..., n] below 2 ** bits to bytes [..., n * bits / 8], the first one lowest."""
    joined = np.zeros((*values.shape[:-1], values.shape[-1] * bits // 8), np.uint8)
    for place in range(8 // bits):
        joined |= values[..., place :: 8 // bits] << np.uint8(place * bits)
    return joined


def _part(joined: U8, bits: int) -> U8:
    """The inverse of `_join`."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: U8 = (joined[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*joined.shape[:-1], -1)


def quantize(weight: F32, scheme: Scheme) -> Codes:
    """Round a matrix [N, K] to the nearest codes of the scheme, block by block, once its scales are what is kept.

    Symmetric: the value of largest magnitude falls on the end of the grid, -8 or -127, so that its sign is kept by the
    sign of the scale (as GGML's Q4_0 does). With a zero point: the range, widened to hold zero, is split evenly.
    ValueError if a weight is NaN or infinite, ScaleError if a scale is too large for what it is kept in.
    """
    n, k = weight.shape
    blocks = weight.reshape(n, k // scheme.block, scheme.block)  # [N, K/B, B]
    if scheme.numbers == "floats":
        return encode_floats(blocks, spread_scales(blocks, scheme), scheme)
    middle, top = 1 << (scheme.bits - 1), (1 << scheme.bits) - 1
    if scheme.zero_point:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        scales = hold_scales(high / top - low / top, scheme.scales, up=True)
        zeros = np.clip(np.rint(-low / scales), 0, top).astype(np.uint8)  # [N, K/B]
        codes = np.rint(blocks / scales[..., None]) + zeros[..., None]
        packed_zeros = pack(zeros, scheme.zero_bits)
    else:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
        scales = hold_scales(largest / -(middle if scheme.bits == 4 else middle - 1), scheme.scales, up=True)
        codes = np.rint(blocks / scales[..., None]) + middle
        packed_zeros = None
    codes = np.clip(codes, 0, top).astype(np.uint8).reshape(n, k)
    return Codes(pack(codes, scheme.bits), scales, packed_zeros, scheme.bits, scheme.block)


def encode_floats(blocks: F32, scales: F32, scheme: Scheme) -> Codes:
    """The nearest four-bit floats of blocks [N, K / B, B] on scales [N, K / B] that the scheme holds."""
    factor = factor_of(scheme)
    codes = codes_of(nearest_number(blocks / (scales * factor)[..., None])).reshape(len(blocks), -1)
    return Codes(pack(codes, 4), scales, None, 4, scheme.block, "floats", float(factor))


def dequantize(matrix: Codes) -> F32:
    """The fp32 matrix [N, K] that the codes stand for."""
    if matrix.numbers == "floats":
        numbers = NUMBERS[unpack(matrix.codes, 4)].reshape(*matrix.scales.shape, matrix.block)
        numbers *= (matrix.scales * np.float32(matrix.factor))[..., None]
        return numbers.reshape(len(numbers), -1)
    codes = unpack(matrix.codes, matrix.bits).astype(np.float32)
    n, k = codes.shape
    zeros: Any = 1 << (matrix.bits - 1)
    if matrix.zero_points is not None:
        zeros = unpack(matrix.zero_points, 4 if matrix.bits == 4 else 8)[..., None].astype(np.float32)
    blocks = codes.reshape(n, k // matrix.block, matrix.block) - zeros
    weights: F32 = (blocks * matrix.scales[..., None]).reshape(n, k)
    return weights


def interleave_rows(gate: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
    """Rows gate0, up0, gate1, up1, … [2I, …] of two arrays [I, …]: the order QMoE wants of a fused SwiGLU."""
    return np.stack([gate, up], axis=1).reshape(2 * gate.shape[0], *gate.shape[1:])


def hold_scales(scales: NDArray[Any], kept: ScaleType, up: bool = False) -> F32:
    """The scales [..., G] that take the place of these where they are kept in a type: its nearest numbers.

    `up`: in float8, where the nearest may be a sixteenth too small for the largest weight of a block, the next larger.
    Below 2^-14, where the numbers of fp16 lie 2^-24 apart, the next larger one: so no weight leaves its grid, and none
    is further off than by a step of the exact scale and 2^-24. A scale of 0, of a block that becomes zeros, is 1.
    ValueError for NaN and infinity, ScaleError for what is beyond the type.
    """
    if not np.isfinite(scales).all():
        raise ValueError("NaN and infinity have no code")
    # A block of zeros has no range; any scale gives it back exactly.
    usable: F32 = np.where(scales == 0, 1, scales).astype(np.float32)
    if kept == "float32":
        return usable
    if kept == "float8":
        return _hold_eight(np.where(scales == 0, 0, usable), up)
    held = _nearest_half(usable) if kept == "float16" else _nearest_bfloat16(usable)
    if not np.isfinite(held).all():
        raise ScaleError(f"a scale of {np.abs(usable).max():.3g} is too large for {kept}")
    if kept == "float16":
        size = np.abs(usable)
        coarse = np.maximum(np.ceil(size / LEAST_HALF), 1) * LEAST_HALF
        held = np.where(size < 2.0**-14, np.copysign(coarse, usable), held).astype(np.float32)
    return np.where(held == 0, np.float32(1), held)


def row_factors(held: F32) -> F32:
    """What a row's scales [..., G] have in common [..., 1], where they were held in float8: a number of bfloat16.

    The largest of them is 256 times that. One column whose inputs are a thousand times those of others decides what a
    model says; its block has its row's largest scale, which so is hardly rounded.
    """
    factors: F32 = np.abs(held).max(-1, keepdims=True) / LARGEST_EIGHT
    return factors


def _hold_eight(scales: F32, up: bool) -> F32:
    """e4m3 numbers times their row's factor; those below 2^-6 of it, which lie 2^-9 apart, are the next larger ones.

    A row of weights so small that nothing is left of them has LEAST_LARGEST throughout.
    """
    largest = np.abs(scales).max(-1, keepdims=True)
    scales = np.where(largest < LEAST_LARGEST, np.copysign(LEAST_LARGEST, scales), scales)
    largest = np.maximum(largest, LEAST_LARGEST)
    factors = _nearest_bfloat16(largest / LARGEST_EIGHT)
    if up:
        next_one = (factors.view(np.uint32) + np.uint32(1 << 16)).view(np.float32)
        factors = np.where(factors * LARGEST_EIGHT < largest, next_one, factors)
    size = np.abs(scales) / factors
    exponent = np.maximum(np.frexp(size)[1] - 1, -6)
    step = np.ldexp(np.float32(1), exponent - 3)
    parts = size / step
    parts = np.ceil(parts) if up else np.where(size < 2.0**-6, np.ceil(parts), np.rint(parts))
    held = np.clip(parts * step, 2.0**-9, LARGEST_EIGHT) * factors
    signed: F32 = np.where(np.signbit(scales), -held, held).astype(np.float32)
    return signed


def _nearest_half(values: F32) -> F32:
    """The nearest numbers of fp16, infinite beyond it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _nearest_bfloat16(values: F32) -> F32:
    """The nearest fp32 numbers whose lower 16 bits are zeros, of two equally near ones the even one."""
    bits = values.view(np.uint32)
    rounded: F32 = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rounded
