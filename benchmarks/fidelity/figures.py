"""How far another model's predictions are from the reference's: KL, top-1 agreement, perplexity, and how sure that is.

KL(reference || other) in nats a token. A window's first positions are left out: with so little before them no model
predicts well. Intervals are bootstraps over windows, in pairs: each draw takes the same windows of both methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fidelity.model import Array

SKIPPED = 16
DRAWS = 4000
ROWS = ("kl", "agrees", "nll", "other_nll")


@dataclass(frozen=True)
class Figures:
    """One method's distance from the reference, over all positions of all windows."""

    kl_mean: float
    kl_error: float  # standard error of the mean, over windows
    kl_p99: float
    top1: float
    perplexity: float
    reference_perplexity: float
    positions: int


def compare(reference: Array, other: Array, ids: np.ndarray) -> Array:
    """ROWS by position, [4, positions], of one window's logits [tokens, vocab] and token ids [tokens]."""
    p, q = (log_softmax(logits[SKIPPED:-1]) for logits in (reference, other))
    following = ids[SKIPPED + 1 :, None]
    kl = np.maximum((np.exp(p) * (p - q)).sum(-1), 0)
    nll = [-np.take_along_axis(x, following, 1)[:, 0] for x in (p, q)]
    return np.stack([kl, p.argmax(-1) == q.argmax(-1), *nll]).astype(np.float32)


def log_softmax(logits: Array) -> np.ndarray:
    """Over the last axis, in double precision."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def figures(windows: Sequence[Array]) -> Figures:
    """All windows' rows together."""
    kl, agrees, nll, other_nll = np.concatenate(windows, 1).astype(np.float64)
    means = np.array([window[0].mean(dtype=np.float64) for window in windows])
    return Figures(
        kl_mean=float(kl.mean()),
        kl_error=float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else float("nan"),
        kl_p99=float(np.quantile(kl, 0.99)),
        top1=float(agrees.mean()),
        perplexity=float(np.exp(other_nll.mean())),
        reference_perplexity=float(np.exp(nll.mean())),
        positions=len(kl),
    )


@dataclass(frozen=True)
class Ratio:
    """One method's mean KL over another's, with the interval that holds 95 % of the draws."""

    value: float
    low: float
    high: float


def ratio(windows: Sequence[Array], others: Sequence[Array], seed: int = 0) -> Ratio:
    """Mean KL of the first over that of the second, for the same windows in the same order."""
    if len(windows) != len(others):
        raise ValueError(f"{len(windows)} windows cannot be compared with {len(others)}")
    sums = np.array([[rows[0].sum(dtype=np.float64) for rows in side] for side in (windows, others)])  # [2, windows]
    drawn = np.random.default_rng(seed).integers(0, len(windows), (DRAWS, len(windows)))
    above, below = sums[:, drawn].sum(-1)
    low, high = np.quantile(above / below, [0.025, 0.975])
    return Ratio(float(sums[0].sum() / sums[1].sum()), float(low), float(high))
