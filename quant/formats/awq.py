"""The tensors of AWQ checkpoints in AutoAWQ's `gemm` version, 4 bits.

A weight [N, K] in G groups along K:
    weight[n, k] = (code[k, n] - zero[g, n]) * scales[g, n],    g = k // group_size
    qweight i32 [K, N / 8], qzeros i32 [G, N / 8]: nibble p of word w (0 the lowest) belongs to n = 8 w + ORDER[p]
    scales [G, N]
Source: AutoAWQ 0.2.9 (modules/linear/gemm.py: from_linear).
"""

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8, pack
from moedge.quant.grids import Grid

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
# the nibble that holds column 8 w + j
_NIBBLE = np.argsort(ORDER)


def columns_from_awq(words: NDArray[np.int32]) -> U8:
    """Words [m, w] as one value a byte and column [8 w, m]."""
    turned = np.ascontiguousarray(words.T).view(np.uint32)  # [w, m]
    columns = [(turned >> np.uint32(4 * nibble)).astype(np.uint8) & 15 for nibble in _NIBBLE]
    return np.stack(columns, axis=1).reshape(8 * words.shape[1], words.shape[0])


def grid_from_awq(
    qweight: NDArray[np.int32], scales: F32, qzeros: NDArray[np.int32] | None, group: int | None = None
) -> Grid:
    """`qweight` [K, n / 8] with scales [G, n] and `qzeros` [G, n / 8]; None: every zero point is 8."""
    zeros = None if qzeros is None else columns_from_awq(qzeros)
    return Grid(pack(columns_from_awq(qweight), 4), np.ascontiguousarray(scales.T), zeros, 4, None, group)
