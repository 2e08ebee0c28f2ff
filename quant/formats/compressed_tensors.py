"""Integer formats of compressed-tensors: `pack-quantized`, as Kimi K2 Thinking is published, and `int-quantized`.

A weight [N, K] of b bits, values v in -2^(b-1) … 2^(b-1) - 1, G groups along K:
    weight = (v - zero) * weight_scale        weight_scale [N, G]; [N, 1] or [N]: one a row; one value: one for all
    pack-quantized: weight_packed i32 [N, K b / 32] holds v + 2^(b-1), the first in the lowest bits, and
                    weight_zero_point i32 [N b / 32 (rounded up), G] holds zero + 2^(b-1) so packed along the rows
    int-quantized:  weight i8 [N, K] holds v, weight_zero_point i8 [N, G] holds zero
    weight_g_idx i32 [K], of activation ordering: column k belongs to group weight_g_idx[k]; all -1: it says nothing
As little-endian bytes weight_packed is the layout of blocks.py. Source: compressed-tensors 0.20 (pack_quantized).
"""

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8, unpack
from moedge.quant.grids import Grid, words_to_bytes

_SIGN = np.uint8(0x80)


def grid_from_packed(
    packed: NDArray[np.int32],
    scales: F32,
    zeros: U8 | None,
    bits: int,
    group_of: NDArray[np.int64] | None = None,
    group: int | None = None,
) -> Grid:
    """`weight_packed` [n, K b / 32] with its scales [n, G] and zero points [n, G] (see `zeros_from_packed`)."""
    return Grid(words_to_bytes(packed), scales, zeros, bits, group_of, group)


def zeros_from_packed(packed: NDArray[np.int32], bits: int) -> U8:
    """`weight_zero_point` [m, G], of m words along the rows, as zero points of blocks.py [m * 32 / bits, G]."""
    return np.ascontiguousarray(unpack(words_to_bytes(packed.T), bits).T)


def grid_from_int8(
    weight: NDArray[np.int8],
    scales: F32,
    zeros: NDArray[np.int8] | None,
    group_of: NDArray[np.int64] | None = None,
    group: int | None = None,
) -> Grid:
    """`weight` i8 [n, K] with its scales and zero points [n, G]."""
    unsigned = None if zeros is None else np.ascontiguousarray(zeros).view(np.uint8) ^ _SIGN
    return Grid(np.ascontiguousarray(weight).view(np.uint8) ^ _SIGN, scales, unsigned, 8, group_of, group)
