"""The `pack-quantized` format of compressed-tensors, as Kimi K2 Thinking is published: int4 codes without a change.

weight_packed i32 [N, K/8] holds eight codes v + 8 a word, the first in the lowest nibble; as little-endian bytes it is
the layout of `blocks.py` with zero point 8. weight_scale [N, K/G] holds one bf16 scale a group of G.
"""

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, Codes


def codes_from_packed(packed: NDArray[np.int32], scales: F32, shape: tuple[int, int]) -> Codes:
    """The tensors of one matrix [N, K] as `Codes`, bytes unchanged; ValueError if their shapes or scales are wrong."""
    n, k = shape
    if packed.shape != (n, k // 8) or k % 8 or scales.ndim != 2 or scales.shape[0] != n or k % scales.shape[1]:
        raise ValueError(f"weight_packed {packed.shape} and weight_scale {scales.shape} do not hold a {n} x {k} matrix")
    if not np.isfinite(scales).all():
        raise ValueError("its scales hold NaN or infinity")
    little = np.ascontiguousarray(packed).astype("<i4", copy=False)
    return Codes(little.view(np.uint8), scales.astype(np.float32), None, 4, k // scales.shape[1])
