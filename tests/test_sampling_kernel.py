"""Tokens are chosen in the kernel library as numpy chooses them: the same one for each seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import needs_kernels
from test_distribution import KINDS, SIZES, peaked

from moedge.devices.errors import MoedgeError
from moedge.runtime.kernels.choice import Chooser
from moedge.runtime.kernels.library import find_library, open_library
from moedge.runtime.sampling import BrokenLogits, Sampler, SamplingParams

pytestmark = needs_kernels
LIBRARY = open_library() if find_library() else None
STEPS = 6


def assert_same_tokens(rows, params, prompt=()):
    """Several steps, so that penalties have something to count."""
    ours, plain = (Sampler(params, len(rows[0]), prompt, library) for library in (LIBRARY, None))
    before = [row.copy() for row in rows]
    assert [ours.choose(row) for row in rows] == [plain.choose(row) for row in rows]
    assert np.array_equal(rows, before)


@pytest.fixture
def quick(monkeypatch):
    """What the library answered, a list that grows."""
    answers, choose = [], Chooser.choose
    monkeypatch.setattr(Chooser, "choose", lambda *given: answers.append(choose(*given)) or answers[-1])
    return answers


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_wishes_at_any_size(kind, size):
    rng = np.random.default_rng(size)
    rows = [kind(rng, size) for _ in range(STEPS)]
    for temperature in (0.0, 0.05, 0.7, 1.0):
        for top_k in (0, 1, 40, 500):
            for top_p, min_p in ((1.0, 0.0), (0.9, 0.0), (0.5, 0.05), (0.0, 0.0), (1.0, 0.1), (1.0, 1.0)):
                for repetition in (1.0, 1.1):
                    wishes = SamplingParams(temperature, top_k, top_p, min_p, 3, repetition)
                    assert_same_tokens(rows, wishes, range(0, size, 7))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
    st.integers(1, 20_000),
    st.one_of(st.just(0.0), st.floats(1e-3, 5), st.floats(0, 1000)),
    st.one_of(st.just(0), st.integers(0, 20_000)),
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.one_of(st.just(0.0), st.floats(0, 1)),
    st.floats(0.5, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_any_wishes(kind, seed, size, temperature, top_k, top_p, min_p, repetition, presence, frequency):
    rng = np.random.default_rng(seed)
    rows = [kind(rng, size)] * STEPS  # the same ones, so that tokens come again
    wishes = SamplingParams(temperature, top_k, top_p, min_p, seed, repetition, presence, frequency)
    assert_same_tokens(rows, wishes, rng.integers(0, size, 30).tolist())


@pytest.mark.parametrize(
    "wishes",
    [
        {"temperature": 0.0},
        {},
        {"top_k": 40},
        {"top_k": 40, "top_p": 0.9, "min_p": 0.05},
        {"top_p": 0.9},
        {"min_p": 0.05},
        {"top_k": 20, "repetition_penalty": 1.1},
    ],
)
def test_what_is_usual_is_not_left_to_numpy(wishes, quick):
    rng = np.random.default_rng(2)
    rows = [peaked(rng, 151_936) for _ in range(4)]
    assert_same_tokens(rows, SamplingParams(**{"temperature": 0.7, "seed": 1} | wishes))
    assert len(quick) == len(rows)
    assert None not in quick


@pytest.mark.parametrize("size", [1, 127, 128, 300, 5_000])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(size, broken, quick):
    for place in {0, size // 2, size - 1}:
        for temperature in (0.0, 1.0):
            logits = np.zeros(size, np.float32)
            logits[place] = broken
            with pytest.raises(BrokenLogits):
                Sampler(SamplingParams(temperature), size, (), LIBRARY).choose(logits)
    assert set(quick) == {None}


def test_penalties_that_leave_no_number_are_refused(quick):
    wishes = SamplingParams(0.0, presence_penalty=-3e38, frequency_penalty=-3e38)
    sampler = Sampler(wishes, 3, (), LIBRARY)
    logits = np.array([1e38, 0, 0], np.float32)
    assert sampler.choose(logits) == 0
    with pytest.raises(MoedgeError, match="penalties make logits infinite"):
        sampler.choose(logits)
    assert quick == [0, None]


def test_logits_of_another_kind_are_refused():
    sampler = Sampler(SamplingParams(0.0), 8, (), LIBRARY)
    for logits in (np.zeros(8), np.zeros(9, np.float32)):
        with pytest.raises(ValueError, match="float32 of the vocabulary"):
            sampler.choose(logits)
    with pytest.raises(TypeError, match="contiguous"):
        sampler.choose(np.zeros(16, np.float32)[::2])
