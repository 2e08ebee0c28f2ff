"""Rotary position embedding as values: frequencies, their scalings for long contexts, and the tables of both."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Linear:
    """Positions divided by a factor (Chen et al. 2023, arXiv:2306.15595)."""

    factor: float


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1's scaling (arXiv:2407.21783): long waves turn `factor` times slower, short ones as they did.

    Of the original length n, a wave is long beyond n / low_freq_factor positions and short below n / high_freq_factor;
    between them 1 / factor and 1 are blended linearly in n / wave.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class Yarn:
    """YaRN scaling of rotary frequencies (Peng et al. 2023, arXiv:2309.00071), with DeepSeek's two mscales.

    `attn_factor` and `extrapolation_factor` are the authors' own: the magnitude times the one, and the other is the
    share of the unscaled frequencies that is left of what the ramp leaves of them. `attention_factor` is transformers'
    name for the whole magnitude.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    attn_factor: float = 1.0
    extrapolation_factor: float = 1.0
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
class Proportional:
    """Gemma 4's: of the frequencies of all dimensions the first ones turn, this share of them, and no others."""

    share: float
    factor: float


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding over `dim` of each head; `interleaved` pairs neighbours instead of halves on disk."""

    theta: float
    dim: int
    interleaved: bool = False
    scaling: Proportional | Linear | Llama3 | Yarn | LongRope | None = None

    def switches(self, context: int) -> int:
        """The length above which the second half of the tables counts; 0: there is one set for the whole context."""
        original = self.scaling.original_max_position_embeddings if isinstance(self.scaling, LongRope) else context
        return original if original < context else 0

    def tables(self, context: int) -> tuple[F32, F32]:
        """Cosines and sines [context, dim / 2] for positions 0 … context-1.

        Where LongRoPE switches at length n < context, n rows of the short set, then `context` rows of the long one.
        """
        exponents = np.arange(0, self.dim, 2, dtype=np.float32) / np.float32(self.dim)
        inverse: F32 = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        sets: list[tuple[F32, float]]  # angles, and by what their cosines and sines are multiplied
        match self.scaling:
            case LongRope() as long:
                short = _table(_divide(inverse, long.short_factor), self.switches(context) or context)
                sets = [(short, long.short_mscale)]
                if self.switches(context):
                    sets.append((_table(_divide(inverse, long.long_factor), context), long.long_mscale))
            case Yarn() as yarn:
                scaled, magnitude = self._yarn(yarn, inverse)
                sets = [(_table(scaled, context), magnitude)]
            case Llama3() as llama:
                sets = [(_table(_llama3(llama, inverse), context), 1.0)]
            case Proportional(share, factor):
                turning = np.arange(len(inverse)) < int(share * self.dim // 2)
                sets = [(_table(inverse / np.float32(factor) * turning, context), 1.0)]
            case Linear(factor):
                sets = [(_table(inverse / np.float32(factor), context), 1.0)]
            case None:
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
        ramp = ramp + (1 - ramp) * (1 - yarn.extrapolation_factor)
        scaled = inverse / yarn.factor * ramp + inverse * (1 - ramp)
        if yarn.attention_factor is not None:
            magnitude = yarn.attention_factor
        else:
            magnitude = yarn.magnitude(yarn.mscale) / yarn.magnitude(yarn.mscale_all_dim) * yarn.attn_factor
        return scaled.astype(np.float32), magnitude


def _llama3(llama: Llama3, inverse: F32) -> F32:
    original, low, high = llama.original_max_position_embeddings, llama.low_freq_factor, llama.high_freq_factor
    waves = 2 * math.pi / inverse
    kept = np.clip((original / waves - low) / (high - low), 0, 1)  # the share of the unscaled frequency
    return ((1 - kept) * inverse / llama.factor + kept * inverse).astype(np.float32)


def _table(inverse: F32, length: int) -> F32:
    angles: F32 = np.arange(length, dtype=np.float32)[:, None] * inverse
    return angles


def _divide(inverse: F32, factors: tuple[float, ...]) -> F32:
    return (inverse / np.array(factors, np.float32)).astype(np.float32)
