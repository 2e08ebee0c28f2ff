"""Eight-bit floats with scales, as DeepSeek V3 is published: bytes to fp32. There is no integer grid that holds them.

    weight[n, k] = E4M3(byte[n, k]) * scale[n // B, k // C]      blocks of B rows and C columns, the last ones shorter
    E4M3 (the `fn` kind): s eeee mmm; e > 0: ± 2^(e - 7) * (1 + m / 8); e = 0: ± 2^-6 * m / 8; e = 15, m = 7: NaN
    E8M0, of scales: 2^(byte - 127); 255: NaN
Source: OCP 8-bit floating point 1.0; DeepSeek-V3 (arXiv:2412.19437), weight_scale_inv beside each weight.
"""

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8
from moedge.quant.four_bit_floats import E4M3


def e8m0(scales: U8) -> F32:
    """Powers of two by their exponents' bytes."""
    values: NDArray[np.float64] = np.ldexp(1.0, scales.astype(np.int32) - 127)
    return np.where(scales == 255, np.nan, values).astype(np.float32)


def dequantize_fp8(weight: U8, scales: F32, start: int, block: tuple[int, int]) -> F32:
    """Rows of a matrix [n, K] from row `start` on, with the scales [.., K / C] of the blocks that these rows lie in.

    ValueError if a weight or scale is not finite.
    """
    values = E4M3[weight]
    rows, columns = block
    if not np.isfinite(scales).all():
        raise ValueError("its scales hold NaN or infinity")
    if (weight & 127 == 127).any():
        raise ValueError("it holds NaN")
    first = start // rows
    for i, scale in enumerate(scales):
        a, b = ((first + i) * rows - start, (first + i + 1) * rows - start)
        with np.errstate(over="ignore"):  # whoever cannot hold infinity looks for it
            values[max(a, 0) : b] *= np.repeat(scale, columns)[: weight.shape[1]]
    return values
