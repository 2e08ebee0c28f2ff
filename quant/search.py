"""Rounding that looks for each block's scale and zero point: the least squared error, weighted by its inputs.

An error in column k of a matrix is felt as often as its input is large: `importance` [K] is the mean of that input's
square. For given codes the best scale has a closed form, so that few candidates of a block's range suffice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, Codes, hold_scales, pack, quantize
from moedge.quant.four_bit_floats import codes_of, factor_of, find_scales, nearest_number
from moedge.quant.scheme import Scheme

_COARSE = (1.0, 0.8, 0.6, 0.4)  # of a range
_FINE = 0.1
_COUNTS = 0.3  # times the mean importance of its block: a column that counts
_TINY = np.float32(1e-30)


@dataclass
class Grids:
    """The grids of blocks [..., G]: scales, and zero points from 0 to `top`, the largest code, as floats.

    `top` None: four-bit floats, whose zero points are 0.
    """

    scales: F32
    zeros: F32
    top: int | None

    def round(self, values: F32, zeros: F32) -> None:
        """In place, of values in units of the scale: the nearest codes less their zero points, or four-bit floats."""
        if self.top is None:
            values[...] = nearest_number(values)
            return
        values += zeros
        np.rint(values, out=values)
        np.clip(values, 0, self.top, out=values)
        values -= zeros

    def codes(self, blocks: F32) -> F32:
        """Codes less their zero points, or four-bit floats, of blocks [..., G, B]: the nearest ones."""
        codes = blocks / self.scales[..., None]
        self.round(codes, self.zeros[..., None])
        return codes

    def replace_where(self, better: NDArray[np.bool_], other: "Grids") -> None:
        """Take the other's grids where they are better."""
        np.copyto(self.scales, other.scales, where=better)
        np.copyto(self.zeros, other.zeros, where=better)


def search(weights: F32, scheme: Scheme, importance: F32) -> Codes:
    """Codes of a matrix [N, K] in a scheme of fewer than 8 bits, on the grids of `find_grids`.

    ValueError for NaN and infinity.
    """
    blocks = split(weights, scheme)
    grids = find_grids(blocks, split(importance[None], scheme)[0], scheme)
    if scheme.numbers == "integers":
        grids.scales = hold_scales(grids.scales, scheme.scales)
    return encode(grids.codes(blocks), grids, scheme)


def split(weights: F32, scheme: Scheme) -> F32:
    """Rows [N, K] as blocks [N, K / B, B]."""
    return weights.reshape(len(weights), -1, scheme.block)


def encode(codes: F32, grids: Grids, scheme: Scheme) -> Codes:
    """Codes less their zero points, or numbers, [N, G, B], as kernels read them."""
    if scheme.numbers == "floats":
        factor = factor_of(scheme)
        packed = pack(codes_of(codes).reshape(len(codes), -1), 4)
        return Codes(packed, grids.scales / factor, None, 4, scheme.block, "floats", float(factor))
    raw = (codes + grids.zeros[..., None]).astype(np.uint8).reshape(len(codes), -1)
    zeros = pack(grids.zeros.astype(np.uint8), scheme.zero_bits) if scheme.zero_point else None
    return Codes(pack(raw, scheme.bits), grids.scales, zeros, scheme.bits, scheme.block)


def find_grids(blocks: F32, importance: F32, scheme: Scheme) -> Grids:
    """A good grid a block of [N, G, B], by coarse steps of its range and then finer ones; importance [G, B] is above 0.

    Scales of four-bit floats are numbers of their type, times the scheme's factor. ValueError if a weight is NaN or
    infinite.
    """
    if scheme.numbers == "floats":
        scales = find_scales(blocks, importance, scheme) * factor_of(scheme)
        return Grids(scales, np.zeros_like(scales), None)
    if not np.isfinite(blocks).all():
        raise ValueError("NaN and infinity have no code")
    importance = importance / np.maximum(importance.mean(-1, keepdims=True), _TINY) + np.float32(1e-3)
    best = _Best(blocks, importance, (1 << scheme.bits) - 1)
    top = best.top
    counting = np.where(importance > _COUNTS, blocks, 0)
    if scheme.zero_point:
        for values in (blocks, counting):
            low, high = np.minimum(values.min(-1), 0), np.maximum(values.max(-1), 0)
            for share in _COARSE:
                best.offer(*_spread(low, high, share, top))
        best.offer_near()
        for _ in range(2):
            best.offer(*best.fit_line())
        scales, zeros = best.grids.scales.copy(), best.grids.zeros.copy()
        for step in (-1, 1):
            best.offer(scales, np.clip(zeros + np.float32(step), 0, top))
    else:
        for values in (blocks, counting):
            largest = np.take_along_axis(values, np.abs(values).argmax(-1)[..., None], -1)[..., 0]
            for share in _COARSE:
                for sign in (-1, 1):
                    best.offer(largest * np.float32(sign * share / (top // 2 + 1)), best.grids.zeros)
        best.offer_near()
    return best.grids


def _spread(low: F32, high: F32, share: float, top: int) -> tuple[F32, F32]:
    """Scale and zero point of that share of a range, around its middle."""
    middle, half = (low + high) / 2, (high - low) * np.float32(share / 2)
    scales = half * np.float32(2 / top)
    return scales, np.clip(np.rint((half - middle) / np.where(scales == 0, 1, scales)), 0, top)


class _Best:
    """The best grids so far, of all that were offered."""

    def __init__(self, blocks: F32, importance: F32, top: int) -> None:
        self.top = top
        self._blocks, self._weighted = blocks, importance * blocks
        self._importance = importance
        shape = blocks.shape[:-1]
        self.grids = Grids(np.ones(shape, np.float32), np.full(shape, top // 2 + 1, np.float32), top)
        self._gain = np.full(shape, -1, np.float32)

    def offer_near(self) -> None:
        """Try scales a little smaller and a little larger."""
        for step in (1 - _FINE, 1 + _FINE):
            self.offer(self.grids.scales * np.float32(step), self.grids.zeros)

    def fit_line(self) -> tuple[F32, F32]:
        """The line through the best codes that is nearest to their weights, as a scale and the nearest zero point."""
        codes = self.grids.codes(self._blocks) + self.grids.zeros[..., None]
        h = self._importance
        sums = [np.einsum("ngb,gb->ng", codes, h), np.einsum("ngb,ngb,gb->ng", codes, codes, h)]
        total, wanted = h.sum(-1), [self._weighted.sum(-1), np.einsum("ngb,ngb->ng", codes, self._weighted)]
        flat = np.maximum(total * sums[1] - sums[0] ** 2, _TINY)
        scales = (total * wanted[1] - sums[0] * wanted[0]) / flat
        scales = np.where(scales == 0, self.grids.scales, scales)
        return scales, np.clip(np.rint((sums[0] / total) - wanted[0] / total / scales), 0, self.top)

    def offer(self, scales: NDArray[np.floating], zeros: NDArray[np.floating]) -> None:
        """Try a grid a block, with the scale that suits its codes best."""
        tried = Grids(np.where(scales == 0, 1, scales).astype(np.float32), zeros.astype(np.float32), self.top)
        codes = tried.codes(self._blocks)
        product = np.einsum("ngb,ngb->ng", codes, self._weighted)
        codes *= codes
        square = np.maximum(np.einsum("ngb,gb->ng", codes, self._importance), _TINY)
        tried.scales = np.where(product == 0, tried.scales, product / square).astype(np.float32)
        gain = product * product / square  # what it leaves of the blocks' weighted square is the error
        better = gain > self._gain
        self.grids.replace_where(better, tried)
        np.copyto(self._gain, gain, where=better)


@dataclass(frozen=True)
class Searched:
    """A rounding (see `Rounding`) that knows no inputs: grids are searched with all columns alike."""

    name: str = "searched"

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """Eight bits are rounded to nearest, which loses next to nothing there."""
        if scheme.bits == 8:
            return quantize(weights, scheme)
        return search(weights, scheme, np.ones(weights.shape[1], np.float32))


SEARCHED = Searched()
