"""MXFP4 (OCP Microscaling 1.0): blocks of 32 four-bit floats E2M1 with a power of two each, as 8-bit codes.

    weight[n, k] = E2M1(nibble[n, k]) * 2^(scale[n, k // 32] - 127),    scale 255: not a number
    E2M1, nibbles 0 … 7: 0, 1/2, 1, 3/2, 2, 3, 4, 6; with bit 3 set the same, negative
    bytes hold two nibbles, the even column in the lower one
Twice an E2M1 is a whole number of at most 12: 8-bit codes in blocks of 32 hold every value, at half the scale.
gpt-oss keeps bytes [N, K / 32, 16], compressed-tensors (`mxfp4-pack-quantized`) [N, K / 2].
"""

import numpy as np

from moedge.quant.blocks import U8
from moedge.quant.grids import Grid

BLOCK = 32
_TWICE = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int16)
_CODE = (_TWICE + 128).astype(np.uint8)
# [256]: the codes of both nibbles of a byte, as one value so that a lookup moves both
_PAIRS = _CODE[np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)].view(np.uint16)[:, 0]


def grid_from_mxfp4(packed: U8, scales: U8) -> Grid:
    """Bytes [n, K / 2] with exponents [n, K / 32]; ValueError if an exponent stands for NaN."""
    if (scales == 255).any():
        raise ValueError("its scales hold NaN")
    halves = np.ldexp(np.float32(1), scales.astype(np.int32) - 128).astype(np.float32)
    return Grid(_PAIRS[packed].view(np.uint8), halves, None, 8)
