"""What a quantized model's answers differ by from the exact one's: figures of logits, experts and hidden states.

Pure arithmetic on arrays; whose logits they are, and of which text, is for others. Divergence is in nats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32

F64 = NDArray[np.float64]

SKIPPED = 16  # first positions of a window, whose tokens have seen too little to be judged by
_PIECE = 1 << 22  # logits that are taken to fp64 at once


@dataclass(frozen=True)
class Divergence:
    """Two models at n positions of a text: figures [n] each, of the exact one (the reference) and of the other."""

    kl: F64  # KL(reference || other)
    same_top: NDArray[np.bool_]  # whether both find the same token likeliest
    reference_surprise: F64  # -ln p of the token that follows
    surprise: F64


@dataclass(frozen=True)
class Fidelity:
    """The figures of all positions together; `kl_se` is the mean's standard error over windows, None of one window."""

    kl_mean: float
    kl_se: float | None
    kl_median: float
    kl_p99: float
    top1: float  # 0 to 1
    perplexity: float
    reference_perplexity: float


def diverge(reference: F32, logits: F32, following: NDArray[np.int64]) -> Divergence:
    """Compare logits [n, vocab] of both at positions whose next tokens are `following` [n].

    KL(p || q) = sum p (ln p - ln q), in fp64. ValueError if any logit is NaN or infinite.
    """
    step = max(1, _PIECE // logits.shape[1])
    pieces = [slice(start, start + step) for start in range(0, len(following), step)]
    parts = [_diverge(reference[piece], logits[piece], following[piece]) for piece in pieces]
    return join(parts)


def diverge_from(reference: F32) -> Callable[[F32], F32]:
    """The KL(reference || other) [n] of other logits [n, vocab] that differ little from these, in one pass of fp32.

    With d = other - reference and p the reference's probabilities it is ln sum p e^d - sum p d, which loses nothing
    where d is small. ValueError if any logit is NaN or infinite.
    """
    likely = reference - reference.max(-1, keepdims=True)
    np.exp(likely, out=likely)
    likely /= likely.sum(-1, keepdims=True)

    def diverge_to(logits: F32) -> F32:
        change = logits - reference
        if not np.isfinite(change).all():
            raise ValueError("NaN or infinity among the logits")
        change -= np.einsum("nv,nv->n", likely, change)[:, None]
        largest = change.max(-1)
        change -= largest[:, None]
        np.exp(change, out=change)
        kl: F32 = np.maximum(largest + np.log(np.einsum("nv,nv->n", likely, change)), 0)
        return kl

    return diverge_to


def join(parts: Sequence[Divergence]) -> Divergence:
    """The positions of several, one after the other."""
    return Divergence(
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.same_top for part in parts]),
        np.concatenate([part.reference_surprise for part in parts]),
        np.concatenate([part.surprise for part in parts]),
    )


def summarize(windows: Sequence[Divergence]) -> Fidelity:
    """All windows together; each counts by its positions, and the standard error takes them for equally long."""
    means = [float(window.kl.mean()) for window in windows]
    every = join(windows)
    return Fidelity(
        kl_mean=float(every.kl.mean()),
        kl_se=float(np.std(means, ddof=1) / len(means) ** 0.5) if len(means) > 1 else None,
        kl_median=float(np.median(every.kl)),
        kl_p99=float(np.quantile(every.kl, 0.99)),
        top1=float(every.same_top.mean()),
        perplexity=float(np.exp(every.surprise.mean())),
        reference_perplexity=float(np.exp(every.reference_surprise.mean())),
    )


def choose_top(scores: F32, count: int) -> NDArray[np.int64]:
    """The places of the `count` highest of scores [n, experts], in no order: [n, count]."""
    return np.argpartition(-scores, count - 1, axis=-1)[:, :count]


def share_experts(reference: NDArray[np.int64], chosen: NDArray[np.int64]) -> F64:
    """For each token, the share of the experts [n, top_k] chosen by the one that the other chose too: [n]."""
    both: F64 = (reference[:, :, None] == chosen[:, None, :]).any(-1).mean(-1)
    return both


def relative_error(reference: F32, hidden: F32) -> F64:
    """|hidden - reference| / |reference| of each token's hidden state [n, hidden_size], by Euclidean norms: [n]."""
    exact = reference.astype(np.float64)
    error: F64 = np.linalg.norm(hidden - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    return error


def _diverge(reference: F32, logits: F32, following: NDArray[np.int64]) -> Divergence:
    exact, other = _log_softmax(reference), _log_softmax(logits)
    kl = (np.exp(exact) * (exact - other)).sum(-1)
    rows = np.arange(len(following))
    same = reference.argmax(-1) == logits.argmax(-1)
    return Divergence(kl, same, -exact[rows, following], -other[rows, following])


def _log_softmax(logits: F32) -> F64:
    if not np.isfinite(logits).all():
        raise ValueError("NaN or infinity among the logits")
    values = logits.astype(np.float64)
    values -= values.max(-1, keepdims=True)
    values -= np.log(np.exp(values).sum(-1, keepdims=True))
    return values
