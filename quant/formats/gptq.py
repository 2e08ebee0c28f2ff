"""The tensors of GPTQ checkpoints, as AutoGPTQ and GPTQModel write them, 4 or 8 bits.

A weight [N, K] of b bits in G groups along K, W words of 32 bits:
    weight[n, k] = (code[k, n] - zero[g, n]) * scales[g, n],    g = g_idx[k]
    qweight i32 [K b / 32, N]: codes packed along K, the first in the lowest bits
    qzeros  i32 [G, N b / 32]: zero points packed along N; version 1 holds each word less 0x11111111 (8 bits:
            0x01010101), that is one less a zero point, with a borrow where one is 0; version 2 holds them as they are
    scales  [G, N];  g_idx i32 [K]: k // group_size, unless columns were ordered by activation (desc_act); may be absent
The last of the groups may be shorter.
Source: GPTQModel 7.7 (nn_modules/qlinear: pack_original; utils/model: convert_gptq_v1_to_v2_format_module).
"""

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, U8, unpack
from moedge.quant.grids import Grid, words_to_bytes

_ONES = {4: np.uint32(0x11111111), 8: np.uint32(0x01010101)}


def zeros_from_gptq(qzeros: NDArray[np.int32], bits: int, one_less: bool) -> U8:
    """`qzeros` [G, w] as zero points of blocks.py [w * 32 / bits, G]; `one_less` for version 1."""
    words = np.ascontiguousarray(qzeros).view(np.uint32)
    if one_less:
        words = words + _ONES[bits]  # modulo 2^32: the borrow is paid back
    return np.ascontiguousarray(unpack(words_to_bytes(words.view(np.int32)), bits).T)


def grid_from_gptq(
    qweight: NDArray[np.int32],
    scales: F32,
    zeros: U8 | None,
    bits: int,
    group_of: NDArray[np.int64] | None = None,
    group: int | None = None,
) -> Grid:
    """`qweight` [K b / 32, n] with scales [G, n] and zero points [n, G]; the transposed words are blocks.py's bytes."""
    return Grid(words_to_bytes(qweight.T), np.ascontiguousarray(scales.T), zeros, bits, group_of, group)
