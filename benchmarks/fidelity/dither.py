"""Blocks of ggml's formats as continuous fp32 weights: decoded, then dithered within the cells of their grid.

The only real weights that package indexes hold are quantized ones. Their values lie on a grid that a quantizer of the
same width would find again, and look better for it than it is. So each weight gets uniform noise of one step of its own
block: within half a step of where it was, all trained rows, columns and outliers kept. The result is the reference. It
answers worse than its source, so that perplexities say nothing of the source; ratios of KL are what is compared.

Q4_1: d, m fp16 and 16 bytes, weight i (i < 16) in the low nibble of byte i, i + 16 in the high one: d q + m.
Q8_0: d fp16 and 32 int8: d q.
"""

import numpy as np

from fidelity.model import Array

BLOCK = 32
BLOCK_BYTES = {"Q4_1": 20, "Q8_0": 34}


def decode(raw: np.ndarray, kind: str) -> tuple[Array, Array]:
    """Weights and steps, both [rows, columns], of rows of blocks [rows, bytes]; ValueError for other formats."""
    if kind not in BLOCK_BYTES:
        raise ValueError(f"{kind} blocks are not read here, only {' and '.join(BLOCK_BYTES)}")
    blocks = np.ascontiguousarray(raw).view(np.uint8).reshape(raw.shape[0], -1, BLOCK_BYTES[kind])
    step = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)  # [rows, blocks, 1]
    if kind == "Q4_1":
        least = np.ascontiguousarray(blocks[..., 2:4]).view(np.float16).astype(np.float32)
        codes = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], -1)
        weights = step * codes.astype(np.float32) + least
    else:
        weights = step * np.ascontiguousarray(blocks[..., 2:]).view(np.int8).astype(np.float32)
    shape = (raw.shape[0], -1)
    return weights.reshape(shape), np.abs(np.broadcast_to(step, weights.shape)).reshape(shape)


def dither(weights: Array, steps: Array, rng: np.random.Generator) -> Array:
    """Weights moved by up to half a step either way, evenly."""
    return weights + (rng.random(weights.shape, dtype=np.float32) - np.float32(0.5)) * steps
