"""What logits say of a vocabulary: the likeliest tokens, their probabilities, one token drawn. Pure numpy.

It is fast where a few of many tokens matter: maxima of groups bound the likeliest ones, so that a whole vocabulary is
never sorted, and buffers are the caller's. What wishes become here is `sampling.py`'s.
"""

from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

LOWEST = -50.0  # what is below e^-50 of the likeliest is never drawn
_GROUP = 128  # logits whose largest one stands for them
_HEADS = (256, 8192)  # tokens among which a nucleus is looked for before all are sorted
_BLOCK = 256  # probabilities that are summed up together


def find_largest(logits: Logits, count: int) -> NDArray[np.int64]:
    """The tokens whose logits are no less than the `count`-th largest, ascending: ties stay, as in Hugging Face."""
    ids = _find_more(logits, count)
    values = logits[ids]
    if len(ids) > count:
        ids = ids[values >= _nth_largest(values, count)]
    return ids


def rank_largest(logits: Logits, count: int) -> list[int]:
    """The `count` likeliest tokens, the likeliest first, ties by id."""
    if count <= 0:
        return []
    ids = find_largest(logits, min(count, len(logits)))
    order = np.argsort(-logits[ids], kind="stable")
    return [int(i) for i in ids[order[:count]]]


def log_softmax_at(logits: Logits, token_ids: Sequence[int], room: Logits) -> list[float]:
    """Natural logarithms of the probabilities that the raw logits [vocab] give these tokens; `room` [vocab] is used."""
    top = logits.max()
    np.subtract(logits, top, out=room)
    np.exp(room, out=room)
    log_sum = float(top) + log(float(room.sum()))
    return [float(logits[i]) - log_sum for i in token_ids]


def truncate(
    logits: Logits, temperature: float, top_k: int, top_p: float, min_p: float, room: Logits
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that temperature > 0 and truncation leave, ascending, and their probabilities; `room` [vocab] is used.

    top_k, then top_p of what is left, then min_p. Probabilities are fp64; those of a nucleus of the whole vocabulary
    count what is outside of its likeliest tokens in fp32.
    """
    top = logits.max()
    if 0 < top_k < len(logits):
        ids = find_largest(logits, top_k)
        ids = ids[logits[ids] - top >= LOWEST * temperature]
        weights = _weigh(logits, ids, top, temperature)
        if top_p < 1:
            kept = _nucleus(logits[ids], weights / weights.sum(), top_p)
            ids, weights = ids[kept], weights[kept]
    elif top_p < 1:
        ids, weights = _whole_nucleus(logits, top, temperature, top_p, room)
    else:
        # a little more than min_p leaves, which is looked at below
        lowest = LOWEST if min_p == 0 else max(LOWEST, log(min_p) - 0.01)
        np.subtract(logits, top, out=room)
        ids = np.flatnonzero(room >= lowest * temperature)
        weights = _weigh(logits, ids, top, temperature)
    if min_p > 0:
        kept = weights >= min_p * weights.max()
        ids, weights = ids[kept], weights[kept]
    return ids, weights / weights.sum()


def draw(ids: NDArray[np.int64], p: NDArray[np.float64], chance: float) -> int:
    """The token that stands at `chance`, from 0 to below 1, where tokens lie one after the other, each as wide as p."""
    index = int(np.searchsorted(np.cumsum(p), chance, side="right"))
    return int(ids[min(index, len(ids) - 1)])  # rounding may leave the last sum below the draw


def draw_from_all(logits: Logits, temperature: float, chance: float, room: Logits) -> int:
    """`draw` of the whole vocabulary at a temperature > 0, in fp32, whose error logits have too; `room` is used."""
    weights = _weigh_all(logits, logits.max(), temperature, room)
    whole = len(weights) // _BLOCK * _BLOCK
    sums = np.empty(whole // _BLOCK + 1, np.float64)
    sums[:-1] = weights[:whole].reshape(-1, _BLOCK).sum(axis=1)
    sums[-1] = weights[whole:].sum()
    ends = np.cumsum(sums)
    place = chance * ends[-1]
    block = min(int(np.searchsorted(ends, place, side="right")), int(np.flatnonzero(sums)[-1]))
    within = weights[block * _BLOCK : (block + 1) * _BLOCK].astype(np.float64)
    before = ends[block - 1] if block else 0.0
    index = int(np.searchsorted(np.cumsum(within), place - before, side="right"))
    return block * _BLOCK + min(index, int(np.flatnonzero(within)[-1]))


def _find_more(logits: Logits, count: int) -> NDArray[np.int64]:
    """At least `count` tokens, ascending, among them every one whose logit is no less than the `count`-th largest."""
    groups = len(logits) // _GROUP
    if count > groups // 2:
        return np.flatnonzero(logits >= _nth_largest(logits, count))
    # as many groups as `count` have a logit of that size, so that the `count`-th largest is no less
    maxima: Logits = logits[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
    return np.flatnonzero(logits >= _nth_largest(maxima, count))


def _nth_largest(values: Logits, n: int) -> np.float32:
    place = len(values) - n
    found: np.float32 = np.partition(values, place)[place]
    return found


def _weigh(logits: Logits, ids: NDArray[np.int64], top: np.float32, temperature: float) -> NDArray[np.float64]:
    """Probabilities of some tokens times the sum of all weights: the likeliest has 1."""
    weights: NDArray[np.float64] = np.exp((logits[ids] - top).astype(np.float64) / temperature)
    return weights


@np.errstate(over="ignore")
def _weigh_all(logits: Logits, top: np.float32, temperature: float, room: Logits) -> Logits:
    """The same of the whole vocabulary, in fp32: `room`."""
    np.subtract(logits, top, out=room)
    if temperature != 1:
        np.divide(room, max(temperature, 1e-30), out=room)  # what fp32 holds
    np.exp(room, out=room)
    return room


def _whole_nucleus(
    logits: Logits, top: np.float32, temperature: float, mass: float, room: Logits
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tokens and weights of a nucleus of the whole vocabulary."""
    rest = _weigh_all(logits, top, temperature, room) if len(logits) > _HEADS[0] else None
    for count in (count for count in _HEADS if count < len(logits)):
        ids = _find_more(logits, count)
        weights = _weigh(logits, ids, top, temperature)
        assert rest is not None
        rest[ids] = 0
        p = weights / (weights.sum() + float(rest.sum()))
        if p.sum() >= mass:
            kept = _nucleus(logits[ids], p, mass)
            return ids[kept], weights[kept]
    ids = np.flatnonzero(logits - top >= LOWEST * temperature)
    weights = _weigh(logits, ids, top, temperature)
    kept = _nucleus(logits[ids], weights / weights.sum(), mass)
    return ids[kept], weights[kept]


def _nucleus(logits: Logits, p: NDArray[np.float64], mass: float) -> NDArray[np.int64]:
    """Ascending indices of the smallest set of likeliest entries that holds at least `mass`.

    The logits say which is likelier: where they are close, probabilities tie.
    """
    count = min(int(np.searchsorted(np.cumsum(np.sort(p)[::-1]), mass)) + 1, len(p))
    least = _nth_largest(logits, count)  # sorting numbers takes a tenth of the time of sorting places
    kept = logits > least
    ties = np.flatnonzero(logits == least)
    kept[ties[: count - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)
