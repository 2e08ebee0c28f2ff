"""MXFP4 as it is published: exponents of two in bytes beside four-bit floats, two to a byte, the even column lower.

    weight[n, k] = E2M1(nibble[n, k]) * 2^(scale[n, k // 32] - 127),    scale 255: not a number
gpt-oss keeps bytes [N, K / 32, 16], compressed-tensors (`mxfp4-pack-quantized`) [N, K / 2]. four_bit_floats.py has the
numbers. Source: OCP Microscaling 1.0.
"""

import numpy as np

from moedge.quant.blocks import U8
from moedge.quant.formats.fp8 import e8m0
from moedge.quant.grids import FloatGrid
from moedge.quant.scheme import MXFP4


def grid_from_mxfp4(packed: U8, scales: U8) -> FloatGrid:
    """Bytes [n, K / 2] with exponents [n, K / 32]; ValueError if an exponent stands for NaN."""
    if (scales == 255).any():
        raise ValueError("its scales hold NaN")
    return FloatGrid(np.ascontiguousarray(packed), e8m0(scales), MXFP4)
