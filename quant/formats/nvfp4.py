"""NVFP4 as it is published: E4M3 scales of blocks of 16 beside four-bit floats, two to a byte, the even column lower.

    weight[n, k] = E2M1(nibble[n, k]) * E4M3(weight_scale[n, k // 16]) * factor
    ModelOpt:            weight u8 [N, K / 2], factor = weight_scale_2
    compressed-tensors:  weight_packed u8 [N, K / 2], factor = 1 / weight_global_scale  (`nvfp4-pack-quantized`)
Source: compressed-tensors 0.20 (compressors/nvfp4); ModelOpt's published checkpoints.
"""

from dataclasses import replace

import numpy as np

from moedge.quant.blocks import U8
from moedge.quant.four_bit_floats import E4M3
from moedge.quant.grids import FloatGrid
from moedge.quant.scheme import NVFP4


def grid_from_nvfp4(packed: U8, scales: U8, factor: float) -> FloatGrid:
    """Bytes [n, K / 2] with scales [n, K / 16]; ValueError if a scale or the factor is not finite."""
    return FloatGrid(np.ascontiguousarray(packed), E4M3[scales], replace(NVFP4, factor=factor))
