"""The fast ways through a vocabulary against the plain definition of each, on many kinds of logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moedge.runtime.distribution import draw, draw_from_all, find_largest, log_softmax_at, rank_largest
from moedge.runtime.sampling import History, Sampler, SamplingParams, distribution, penalize

SIZES = (1, 2, 37, 128, 1_000, 4_096, 50_257, 151_936)


def peaked(rng, size):
    """As a trained model's: some likely tokens, a long tail."""
    logits = rng.standard_normal(size).astype(np.float32) * 2
    logits[rng.integers(0, size, 20)] += np.linspace(2, 14, 20, dtype=np.float32)
    return logits


def flat(rng, size):
    return rng.standard_normal(size).astype(np.float32)


def tied(rng, size):
    """Few values, so that every border lies within a tie."""
    return rng.integers(-3, 4, size).astype(np.float32)


def steep(rng, size):
    """One token for sure; some are nothing at all."""
    logits = rng.standard_normal(size).astype(np.float32) * 40
    logits[rng.random(size) < 0.3] = -np.inf
    logits[rng.integers(size)] = 200
    return logits


KINDS = (peaked, flat, tied, steep)
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**32)


def plain_distribution(logits, params):
    """By sorting all of it, in fp64."""
    shifted = logits - logits.max()
    ids = np.flatnonzero(shifted >= -50 * params.temperature)
    shifted = shifted[ids]
    if 0 < params.top_k < len(ids):
        kept = shifted >= np.sort(shifted)[-params.top_k]
        ids, shifted = ids[kept], shifted[kept]
    p = np.exp(shifted.astype(np.float64) / params.temperature)
    p /= p.sum()
    if params.top_p < 1:
        order = np.argsort(-shifted, kind="stable")
        kept = np.sort(order[: int(np.searchsorted(np.cumsum(p[order]), params.top_p)) + 1])
        ids, p = ids[kept], p[kept]
    if params.min_p > 0:
        kept = p >= params.min_p * p.max()
        ids, p = ids[kept], p[kept]
    return ids, p / p.sum()


def plain_penalties(logits, params, prompt, output):
    """Token by token."""
    out = logits.copy()
    for i in {*prompt, *output}:
        if params.repetition_penalty != 1:
            r = np.float32(params.repetition_penalty)
            out[i] = out[i] / r if out[i] > 0 else out[i] * r
    for i in set(output):
        count = np.float32(output.count(i))
        out[i] -= np.float32(params.presence_penalty) + np.float32(params.frequency_penalty) * count
    for i, bias in params.logit_bias.items():
        out[i] += np.float32(bias)
    return out


def assert_alike(logits, params):
    ids, p = distribution(logits, params, np.empty_like(logits))
    right, exact = plain_distribution(logits, params)
    if 0 < params.top_k < len(logits):  # all of it in the same numbers
        assert np.array_equal(ids, right)
        assert np.array_equal(p, exact) or np.allclose(p, exact, rtol=1e-14)
        return
    odd = np.setxor1d(ids, right)  # a sum that meets top_p to the last bits of fp32 may end a token sooner or later
    assert len(odd) <= (1 if params.top_p < 1 else 0)
    assert not len(odd) or logits[odd[0]] == logits[right].min() or logits[odd[0]] == logits[ids].min()
    both, here, there = np.intersect1d(ids, right, return_indices=True)
    assert len(both) >= max(len(ids), len(right)) - 1
    assert np.allclose(p[here] / p[here].sum(), exact[there] / exact[there].sum(), rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_wishes_at_any_size(kind, size):
    rng = np.random.default_rng(size)
    logits = kind(rng, size)
    for temperature in (0.05, 0.7, 1.0, 2.5):
        for top_k in (0, 1, 20, 40, 5_000):
            for top_p, min_p in ((1.0, 0.0), (0.95, 0.0), (0.5, 0.05), (1e-9, 0.0), (1.0, 0.1), (0.0, 1.0)):
                assert_alike(logits, SamplingParams(temperature, top_k, top_p, min_p))


@settings(max_examples=150, deadline=None)
@given(kinds, seeds, st.integers(1, 6_000), st.floats(0.01, 5), st.integers(0, 6_000), st.floats(0, 1), st.floats(0, 1))
def test_any_wishes(kind, seed, size, temperature, top_k, top_p, min_p):
    logits = kind(np.random.default_rng(seed), size)
    assert_alike(logits, SamplingParams(temperature, top_k, top_p, min_p))


@settings(max_examples=150, deadline=None)
@given(kinds, seeds, st.integers(1, 70_000), st.integers(1, 2_000))
def test_the_largest_are_those_of_a_sort(kind, seed, size, count):
    logits = kind(np.random.default_rng(seed), size)
    count = min(count, size)
    least = np.sort(logits)[-count]
    assert find_largest(logits, count).tolist() == np.flatnonzero(logits >= least).tolist()
    assert rank_largest(logits, count) == np.argsort(-logits, kind="stable")[:count].tolist()


@settings(max_examples=60, deadline=None)
@given(kinds, seeds, st.integers(1, 5_000), st.floats(0.05, 3), st.floats(0, 1, exclude_max=True))
def test_a_draw_from_all_is_that_of_the_probabilities(kind, seed, size, temperature, chance):
    """It lies where cumulated probabilities say, as near to a border as fp32 tells."""
    logits = kind(np.random.default_rng(seed), size)
    token = draw_from_all(logits, temperature, chance, np.empty_like(logits))
    p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    ends = np.cumsum(p / p.sum())
    assert p[token] > 0
    assert ends[token] > chance - 1e-5
    assert token == 0 or ends[token - 1] <= chance + 1e-5


def test_draws_from_all_are_those_of_the_plain_way():
    rng = np.random.default_rng(3)
    logits, room = peaked(rng, 151_936), np.empty(151_936, np.float32)
    ids, p = plain_distribution(logits, SamplingParams())
    chances = rng.random(400)
    same = [draw_from_all(logits, 1.0, chance, room) == draw(ids, p, chance) for chance in chances]
    assert np.mean(same) > 0.99


@pytest.mark.parametrize("size", [3, 300, 151_936])
def test_no_chance_leaves_the_vocabulary(size):
    """Also where the last tokens have no probability at all."""
    logits = np.zeros(size, np.float32)
    logits[size // 2 + 1 :] = -1e4
    for chance in (0.0, 0.5, np.nextafter(1.0, 0)):
        assert 0 <= draw_from_all(logits, 1.0, chance, np.empty_like(logits)) <= size // 2


@settings(max_examples=100, deadline=None)
@given(
    kinds,
    seeds,
    st.lists(st.integers(0, 299), max_size=200),
    st.lists(st.integers(0, 299), max_size=300),
    st.floats(0.5, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.dictionaries(st.integers(0, 299), st.floats(-9, 9), max_size=4),
)
def test_penalties_are_those_of_each_token(kind, seed, prompt, output, repetition, presence, frequency, bias):
    logits = kind(np.random.default_rng(seed), 300)
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias
    )
    history = History(300, prompt)
    for token in output:
        history.add(token)
    untouched = logits.copy()
    penalized = penalize(logits, params, history, np.empty_like(logits))
    assert np.array_equal(penalized, plain_penalties(logits, params, prompt, output))
    assert np.array_equal(logits, untouched)


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_of_a_large_vocabulary(kind):
    logits = kind(np.random.default_rng(4), 151_936)
    room = np.empty_like(logits)
    wide = logits.astype(np.float64) - logits.max()
    right = (wide - np.log(np.exp(wide).sum()))[:50]
    assert np.allclose(log_softmax_at(logits, range(50), room), right, atol=1e-5, rtol=1e-6)


def test_the_same_seed_is_the_same_tokens():
    logits = [peaked(np.random.default_rng(i), 5_000) for i in range(20)]
    for wishes in ({}, {"top_p": 0.9}, {"top_k": 20}, {"min_p": 0.02, "repetition_penalty": 1.2}):
        samplers = [Sampler(SamplingParams(seed=7, **wishes), 5_000) for _ in range(2)]
        first, second = ([sampler.choose(row) for row in logits] for sampler in samplers)
        assert first == second
