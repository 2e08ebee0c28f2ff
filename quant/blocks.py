"""Block quantization of matrices: rows of fp32 to packed codes, scales and zero points, and back.

Layout, for a matrix [N, K] in blocks of B along K (what MatMulNBits and QMoE read):
    weight[n, k] = (code[n, k] - zero_point[n, k // B]) * scale[n, k // B]
    8 bits: byte k of a row is code k.     4 bits: byte j of a row is code 2j | code 2j+1 << 4.
Zero points are packed along K // B in the same way. A symmetric scheme stores none: 8 for 4 bits, 128 for 8.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.quant.scheme import Scheme

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Codes:
    """A quantized matrix [N, K]: packed codes [N, K * bits / 8], scales [N, K / B], packed zero points or None."""

    codes: U8
    scales: F32
    zero_points: U8 | None
    bits: int
    block: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Codes, scales and, if there are any, zero points."""
        return (self.codes, self.scales) if self.zero_points is None else (self.codes, self.scales, self.zero_points)

    def rows(self, some: slice) -> "Codes":
        """Some of its rows."""
        zeros = None if self.zero_points is None else self.zero_points[some]
        return Codes(self.codes[some], self.scales[some], zeros, self.bits, self.block)


def pack(codes: U8, bits: int) -> U8:
    """Codes [..., K], one a byte, to bytes [..., K * bits / 8], low nibble first; ValueError if K is odd at 4 bits."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        raise ValueError(f"{codes.shape[-1]} four-bit codes do not fill whole bytes")
    return np.ascontiguousarray(codes[..., 0::2] | (codes[..., 1::2] << 4))


def unpack(packed: U8, bits: int) -> U8:
    """The inverse of `pack`."""
    if bits == 8:
        return packed
    return np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def quantize(weight: F32, scheme: Scheme) -> Codes:
    """Round a matrix [N, K] to the nearest codes of the scheme, block by block.

    Symmetric: the value of largest magnitude falls on the end of the grid, -8 or -127, so that its sign is kept by the
    sign of the scale (as GGML's Q4_0 does). With a zero point: the range, widened to hold zero, is split evenly.
    ValueError if a weight is NaN or infinite.
    """
    n, k = weight.shape
    blocks = weight.reshape(n, k // scheme.block, scheme.block)  # [N, K/B, B]
    middle, top = 1 << (scheme.bits - 1), (1 << scheme.bits) - 1
    if scheme.zero_point:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        scales = _usable(high / top - low / top)
        zeros = np.clip(np.rint(-low / scales), 0, top).astype(np.uint8)  # [N, K/B]
        codes = np.rint(blocks / scales[..., None]) + zeros[..., None]
        packed_zeros = pack(zeros, scheme.bits)
    else:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
        scales = _usable(largest / -(middle if scheme.bits == 4 else middle - 1))
        codes = np.rint(blocks / scales[..., None]) + middle
        packed_zeros = None
    codes = np.clip(codes, 0, top).astype(np.uint8).reshape(n, k)
    return Codes(pack(codes, scheme.bits), scales, packed_zeros, scheme.bits, scheme.block)


def dequantize(matrix: Codes) -> F32:
    """The fp32 matrix [N, K] that the codes stand for."""
    codes = unpack(matrix.codes, matrix.bits).astype(np.float32)
    n, k = codes.shape
    zeros: Any = 1 << (matrix.bits - 1)
    if matrix.zero_points is not None:
        zeros = unpack(matrix.zero_points, matrix.bits)[..., None].astype(np.float32)
    blocks = codes.reshape(n, k // matrix.block, matrix.block) - zeros
    weights: F32 = (blocks * matrix.scales[..., None]).reshape(n, k)
    return weights


def interleave_rows(gate: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
    """Rows gate0, up0, gate1, up1, … [2I, …] of two arrays [I, …]: the order QMoE wants of a fused SwiGLU."""
    return np.stack([gate, up], axis=1).reshape(2 * gate.shape[0], *gate.shape[1:])


def _usable(scales: NDArray[Any]) -> F32:
    if not np.isfinite(scales).all():
        raise ValueError("NaN and infinity have no code")
    # A block of zeros has no range; any scale gives it back exactly.
    return np.where(scales == 0, 1, scales).astype(np.float32)
