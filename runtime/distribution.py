"""What logits say of a vocabulary: the likeliest tokens, their probabilities, one token drawn. Pure numpy.

It is fast where a few of many tokens matter: maxima of groups bound the likeliest ones, so that a whole vocabulary is
never sorted, and buffers are the caller's. What wishes become here is `sampling.py`'s. kernels/sampling.cpp does the
same by the same operations, bit for bit: so exponentials are made of sums and products, and sums have an order.
"""

from collections.abc import Sequence
from math import factorial, log

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

LOWEST = -50.0  # what is below e^-50 of the likeliest is never drawn
_GROUP = 128  # logits whose largest one stands for them
_HEADS = (256, 8192)  # tokens among which a nucleus is looked for before all are sorted
_BLOCK = 256  # probabilities that are summed up together
_LANES = 16  # sums that a block has
_PIECE = 1 << 14  # probabilities that are computed at once: what near caches hold


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
        ids = ids[logits[ids] - top >= least_logit(temperature, 0)]
        weights = _weigh(logits, ids, top, temperature)
        if top_p < 1:
            kept = _nucleus(logits[ids], weights / _add_up(weights), top_p)
            ids, weights = ids[kept], weights[kept]
    elif top_p < 1:
        ids, weights = _whole_nucleus(logits, top, temperature, top_p, room)
    else:
        np.subtract(logits, top, out=room)
        ids = np.flatnonzero(room >= least_logit(temperature, min_p))
        weights = _weigh(logits, ids, top, temperature)
    if min_p > 0:
        kept = weights >= min_p * weights.max()
        ids, weights = ids[kept], weights[kept]
    return ids, weights / _add_up(weights)


def least_logit(temperature: float, min_p: float) -> np.float32:
    """How far below the largest logit lies what min_p leaves, and a little more."""
    lowest = LOWEST if min_p == 0 else max(LOWEST, log(min_p) - 0.01)
    return np.float32(lowest * temperature)


def draw(ids: NDArray[np.int64], p: NDArray[np.float64], chance: float) -> int:
    """The token that stands at `chance`, from 0 to below 1, where tokens lie one after the other, each as wide as p."""
    index = int(np.searchsorted(np.cumsum(p), chance, side="right"))
    return int(ids[min(index, len(ids) - 1)])  # rounding may leave the last sum below the draw


def draw_from_all(logits: Logits, temperature: float, chance: float, room: Logits) -> int:
    """`draw` of the whole vocabulary at a temperature > 0, in fp32, whose error logits have too; `room` is used."""
    weights = _weigh_all(logits, logits.max(), temperature, room)
    sums = _sum_blocks(weights)
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


@np.errstate(over="ignore")
def _weigh(logits: Logits, ids: NDArray[np.int64], top: np.float32, temperature: float) -> NDArray[np.float64]:
    """Probabilities of some tokens times the sum of all weights: the likeliest has 1."""
    x = (logits[ids] - top).astype(np.float64) / temperature
    held = np.maximum(x, -700.0)
    whole = (held * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0  # to the nearest
    f = (held - whole * 6.93147180369123816490e-01) - whole * 1.90821492927058770002e-10  # ln 2 in two parts
    p = np.full(len(x), 1 / factorial(13))
    for n in range(12, -1, -1):
        p = p * f + 1 / factorial(n)
    power = ((whole.astype(np.int64) + 1023) << 52).view(np.float64)
    weights: NDArray[np.float64] = np.where(x >= -700.0, p * power, 0.0)
    return weights


def reciprocal(temperature: float) -> np.float32:
    """Of a temperature > 0, as far as fp32 holds it."""
    return np.float32(1 / max(temperature, 1e-30))


@np.errstate(over="ignore")
def _weigh_all(logits: Logits, top: np.float32, temperature: float, room: Logits) -> Logits:
    """The same of the whole vocabulary, in fp32: `room`."""
    factor, spare = reciprocal(temperature), np.empty((3, min(_PIECE, len(logits))), np.float32)
    for start in range(0, len(logits), _PIECE):
        x = room[start : start + _PIECE]
        f, p, more = spare[:, : len(x)]
        np.subtract(logits[start : start + _PIECE], top, out=x)
        np.multiply(x, factor, out=x)
        np.maximum(x, np.float32(-87), out=f)
        whole = f * np.float32(1.44269504)
        whole += np.float32(12582912)
        whole -= np.float32(12582912)  # to the nearest
        f -= np.multiply(whole, np.float32(0.693359375), out=more)  # ln 2 in two parts
        f += np.multiply(whole, np.float32(2.12194440e-4), out=more)
        p.fill(np.float32(1.9875691500e-4))
        for next_ in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            p *= f
            p += np.float32(next_)
        p *= np.multiply(f, f, out=more)
        p += f
        p += np.float32(1)
        p *= ((whole.astype(np.int32) + np.int32(127)) << 23).view(np.float32)
        np.multiply(p, x >= np.float32(-87), out=x)
    return room


def _sum_blocks(weights: Logits) -> NDArray[np.float64]:
    """Of each block, and of what is left at the end: 16 sums of every 16th, which are added up half by half."""
    blocks = len(weights) // _BLOCK
    rest = np.zeros((1, _BLOCK), np.float32)
    rest[0, : len(weights) - blocks * _BLOCK] = weights[blocks * _BLOCK :]
    sums = np.empty(blocks + 1, np.float64)
    for part, out in ((weights[: blocks * _BLOCK].reshape(-1, _BLOCK), sums[:-1]), (rest, sums[-1:])):
        lanes = part[:, :_LANES].copy()
        for start in range(_LANES, _BLOCK, _LANES):
            lanes += part[:, start : start + _LANES]
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            lanes = lanes[:, :half] + lanes[:, half:]
        out[:] = lanes[:, 0]
    return sums


def _add_up(numbers: NDArray[np.float64]) -> np.float64:
    """One after the other, where `sum` adds pairs."""
    total: np.float64 = np.cumsum(numbers)[-1]
    return total


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
        p = weights / (_add_up(weights) + _add_up(_sum_blocks(rest)))
        if _add_up(p) >= mass:
            kept = _nucleus(logits[ids], p, mass)
            return ids[kept], weights[kept]
    ids = np.flatnonzero(logits - top >= least_logit(temperature, 0))
    weights = _weigh(logits, ids, top, temperature)
    kept = _nucleus(logits[ids], weights / _add_up(weights), mass)
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
