"""Rotary position embedding as values: frequencies, their scalings for long contexts, and the tables of both."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Yarn:
    """YaRN scaling of rotary frequencies (Peng et al. 2023, arXiv:2309.00071), with DeepSeek's two mscales."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    truncate: bool = True

    def magnitude(self, mscale: float) -> float:
        """0.1 · mscale · ln(factor) + 1, by which YaRN sharpens attention."""
        return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class LongRope:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753): a divisor a frequency and a magnitude, of each a short and a long.

    The long ones hold for every position as soon as a sequence exceeds `original_max_position_embeddings`.
    """

    original_max_position_embeddings: int
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    short_mscale: float
    long_mscale: float


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding over `dim` of each head; `interleaved` pairs neighbours instead of halves on disk."""

    theta: float
    dim: int
    interleaved: bool = False
    yarn: Yarn | None = None
    long: LongRope | None = None

    def switches(self, context: int) -> int:
        """The length above which the second half of the tables counts; 0: there is one set for the whole context."""
        original = self.long.original_max_position_embeddings if self.long else context
        return original if original < context else 0

    def tables(self, context: int) -> tuple[F32, F32]:
        """Cosines and sines [context, dim / 2] for positions 0 … context-1.

        Where LongRoPE switches at length n < context, n rows of the short set, then `context` rows of the long one.
        """
        exponents = np.arange(0, self.dim, 2, dtype=np.float32) / np.float32(self.dim)
        inverse: F32 = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.long is not None:
            short = _table(_divide(inverse, self.long.short_factor), self.switches(context) or context)
            sets = [(short, self.long.short_mscale)]
            if self.switches(context):
                sets.append((_table(_divide(inverse, self.long.long_factor), context), self.long.long_mscale))
        elif self.yarn is not None:
            scaled, magnitude = self._yarn(self.yarn, inverse)
            sets = [(_table(scaled, context), magnitude)]
        else:
            sets = [(_table(inverse, context), 1.0)]
        cos = np.concatenate([np.cos(angles) * magnitude for angles, magnitude in sets]).astype(np.float32)
        sin = np.concatenate([np.sin(angles) * magnitude for angles, magnitude in sets]).astype(np.float32)
        return cos, sin

    def _yarn(self, yarn: Yarn, inverse: F32) -> tuple[F32, float]:
        def dimension_of(rotations: float) -> float:
            # the dimension whose wave turns that often over the original context
            turns = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
            return self.dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = dimension_of(yarn.beta_fast), dimension_of(yarn.beta_slow)
        if yarn.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        # a span of less than nothing, from few dimensions or swapped betas, is divided by as it is
        ramp = np.clip((np.arange(self.dim // 2) - low) / (high - low or 1e-3), 0, 1)
        scaled = inverse / yarn.factor * ramp + inverse * (1 - ramp)
        if yarn.attention_factor is not None:
            magnitude = yarn.attention_factor
        elif yarn.mscale and yarn.mscale_all_dim:
            magnitude = yarn.magnitude(yarn.mscale) / yarn.magnitude(yarn.mscale_all_dim)
        else:
            magnitude = yarn.magnitude(1.0)
        return scaled.astype(np.float32), magnitude


def _table(inverse: F32, length: int) -> F32:
    angles: F32 = np.arange(length, dtype=np.float32)[:, None] * inverse
    return angles


def _divide(inverse: F32, factors: tuple[float, ...]) -> F32:
    return (inverse / np.array(factors, np.float32)).astype(np.float32)
