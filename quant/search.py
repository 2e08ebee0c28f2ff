"""Rounding that looks for each block's scale and zero point: the least squared error, weighted by its inputs.

An error in column k of a matrix is felt as often as its input is large: `importance` [K] is the mean of that input's
square. For given codes the best scale has a closed form, so that few candidates of a block's range suffice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, Codes, pack, quantize
from moedge.quant.scheme import Scheme

_COARSE = (1.0, 0.9, 0.8)  # of the range that round to nearest takes
_FINE = 0.05
_TINY = np.float32(1e-30)


@dataclass
class Grids:
    """The grids of blocks [..., G]: scales, and zero points from 0 to 15 as floats."""

    scales: F32
    zeros: F32

    def codes(self, blocks: F32) -> F32:
        """Codes less their zero points of blocks [..., G, B], the nearest ones."""
        zeros = self.zeros[..., None]
        codes = blocks / self.scales[..., None]
        codes += zeros
        np.rint(codes, out=codes)
        np.clip(codes, 0, 15, out=codes)
        codes -= zeros
        return codes

    def replace_where(self, better: NDArray[np.bool_], other: "Grids") -> None:
        """Take the other's grids where they are better."""
        np.copyto(self.scales, other.scales, where=better)
        np.copyto(self.zeros, other.zeros, where=better)


def search(weights: F32, scheme: Scheme, importance: F32) -> Codes:
    """Codes of a matrix [N, K] in a four-bit scheme, on the grids of `find_grids`; ValueError for NaN and infinity."""
    blocks = split(weights, scheme)
    grids = find_grids(blocks, split(importance[None], scheme)[0], scheme.zero_point)
    return encode(grids.codes(blocks), grids, scheme)


def split(weights: F32, scheme: Scheme) -> F32:
    """Rows [N, K] as blocks [N, K / B, B]."""
    return weights.reshape(len(weights), -1, scheme.block)


def encode(codes: F32, grids: Grids, scheme: Scheme) -> Codes:
    """Codes less their zero points [N, G, B], as kernels read them."""
    raw = (codes + grids.zeros[..., None]).astype(np.uint8).reshape(len(codes), -1)
    zeros = pack(grids.zeros.astype(np.uint8), 4) if scheme.zero_point else None
    return Codes(pack(raw, 4), grids.scales, zeros, 4, scheme.block)


def find_grids(blocks: F32, importance: F32, zero_point: bool) -> Grids:
    """A good grid a block of [N, G, B], by coarse steps of its range and then finer ones; importance [G, B] is above 0.

    ValueError if a weight is NaN or infinite.
    """
    if not np.isfinite(blocks).all():
        raise ValueError("NaN and infinity have no code")
    importance = importance / np.maximum(importance.mean(-1, keepdims=True), _TINY) + np.float32(1e-3)
    best = _Best(blocks, importance)
    if zero_point:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        middle, half = (low + high) / 2, (high - low) / 2
        for share in _COARSE:
            best.offer(*_spread(middle, half, share), share)
        coarse = best.share.copy()
        for fine in (-_FINE, _FINE):
            best.offer(*_spread(middle, half, coarse + np.float32(fine)), 1)
        scales, zeros = best.grids.scales.copy(), best.grids.zeros.copy()
        for step in (-1, 1):
            best.offer(scales, np.clip(zeros + np.float32(step), 0, 15), 1)
    else:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
        eight = np.full_like(largest, 8)
        for sign in (-1, 1):
            for share in _COARSE:
                best.offer(largest * np.float32(sign * share / 8), eight, sign * share)
        coarse = best.share.copy()
        for fine in (-_FINE, _FINE):
            best.offer(largest * (coarse * np.float32(1 + fine) / 8), eight, 1)
    return best.grids


def _spread(middle: F32, half: F32, share: F32 | float) -> tuple[F32, F32]:
    """Scale and zero point of that share of a range around its middle."""
    scales = half * share * np.float32(2 / 15)
    return scales, np.clip(np.rint((half * share - middle) / np.where(scales == 0, 1, scales)), 0, 15)


class _Best:
    """The best grids so far, and the share of the range that each came from."""

    def __init__(self, blocks: F32, importance: F32) -> None:
        self._blocks, self._weighted = blocks, importance * blocks
        self._importance = importance
        shape = blocks.shape[:-1]
        self.grids = Grids(np.ones(shape, np.float32), np.full(shape, 8, np.float32))
        self.share = np.ones(shape, np.float32)
        self._gain = np.full(shape, -1, np.float32)

    def offer(self, scales: NDArray[np.floating], zeros: NDArray[np.floating], share: float) -> None:
        """Try a grid a block, with the scale that suits its codes best."""
        tried = Grids(np.where(scales == 0, 1, scales).astype(np.float32), zeros.astype(np.float32))
        codes = tried.codes(self._blocks)
        product = np.einsum("ngb,ngb->ng", codes, self._weighted)
        codes *= codes
        square = np.maximum(np.einsum("ngb,gb->ng", codes, self._importance), _TINY)
        tried.scales = np.where(product == 0, tried.scales, product / square).astype(np.float32)
        gain = product * product / square  # what it leaves of the blocks' weighted square is the error
        better = gain > self._gain
        self.grids.replace_where(better, tried)
        np.copyto(self.share, np.float32(share), where=better)
        np.copyto(self._gain, gain, where=better)


def round_weighted(weights: F32, scheme: Scheme, importance: F32) -> Codes:
    """Search where the scheme has four bits; more bits are rounded to nearest, which loses next to nothing there."""
    return search(weights, scheme, importance) if scheme.bits == 4 else quantize(weights, scheme)
