"""Factors that make channels easier to round: what reads large inputs gets the finer steps.

A channel of mean square h is worth h ** (strength / 2), scaled to leave the sizes of weights about as they are; the
strength is the one for which round to nearest does the least damage to the products (Lin et al. 2023).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moedge.quant.blocks import F32, dequantize, quantize
from moedge.quant.scheme import Scheme

STRENGTHS = (0.15, 0.3, 0.45, 0.6, 0.75)
_LEAST = np.float32(1e-6)  # of the mean: a channel that is silent in the text may not be in another


@dataclass(frozen=True)
class ReadBy:
    """Some rows [n, K] of a matrix that reads the channels, the mean square of its inputs [K], its scheme.

    `spread` turns a value a channel into one a column.
    """

    weights: F32
    importance: F32
    scheme: Scheme
    spread: Callable[[F32], F32]


def choose_factors(channels: F32, readers: Sequence[ReadBy]) -> F32 | None:
    """What to multiply each channel's columns by, from the channels' mean squares; None: nothing helps."""
    mean = channels.mean()
    if not np.isfinite(mean) or mean <= 0:
        return None
    sizes = np.maximum(channels / mean, _LEAST)
    best, least = None, sum(_damage(reader, None) for reader in readers)
    for strength in STRENGTHS:
        factors = sizes ** np.float32(strength / 2)
        factors = (factors / np.sqrt(factors.max() * factors.min())).astype(np.float32)
        damage = sum(_damage(reader, factors) for reader in readers)
        if damage < least:
            best, least = factors, damage
    return best


def _damage(reader: ReadBy, factors: F32 | None) -> float:
    """The weighted square of what rounding to nearest changes."""
    by_column = np.float32(1) if factors is None else reader.spread(factors)
    rounded = dequantize(quantize(reader.weights * by_column, reader.scheme)) / by_column
    return float((np.square(rounded - reader.weights) @ reader.importance).sum(dtype=np.float64))
