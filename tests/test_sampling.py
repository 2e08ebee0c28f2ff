from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moedge.devices.errors import MoedgeError
from moedge.runtime import sampling
from moedge.runtime.distribution import log_softmax_at, rank_largest
from moedge.runtime.sampling import BrokenLogits, History, Sampler, SamplingParams

VOCAB = 50
ALMOST_A_TIE = np.array([0.0, np.finfo(np.float32).tiny, *[-30.0] * (VOCAB - 2)], np.float32)
logits_of_any_model = arrays(np.float32, VOCAB, elements=st.floats(-30, 30, width=32))


def distribution(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    return sampling.distribution(logits, params, np.empty_like(logits))


def penalize(logits: np.ndarray, params: SamplingParams, history: History) -> np.ndarray:
    return sampling.penalize(logits, params, history, np.empty_like(logits))


def choose(logits: np.ndarray, prompt: tuple[int, ...] = (), **wishes: object) -> int:
    return Sampler(SamplingParams(**{"seed": 0} | wishes), len(logits), prompt).choose(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


def draws(logits: np.ndarray, params: SamplingParams, n: int, seed: int = 5) -> np.ndarray:
    sampler = Sampler(replace(params, seed=seed), len(logits))
    return np.bincount([sampler.choose(logits) for _ in range(n)], minlength=len(logits))


def chi_square(counts: np.ndarray, p: np.ndarray) -> float:
    expected = p * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    logits = np.random.default_rng(1).standard_normal(20).astype(np.float32)
    counts = draws(logits, SamplingParams(temperature=temperature), 20_000)
    # 19 degrees of freedom: 43.8 is the 0.1 % point
    assert chi_square(counts, softmax(logits / temperature)) < 43.8
    assert chi_square(counts, softmax(logits / (temperature * 1.2))) > 43.8


def test_top_k_draws_only_the_likeliest_in_proportion():
    logits = np.array([0, 3, 1, 2, -1], np.float32)
    counts = draws(logits, SamplingParams(top_k=2), 5_000)
    assert counts[[0, 2, 4]].sum() == 0
    assert chi_square(counts[[1, 3]], softmax(logits[[1, 3]])) < 10.8  # 1 degree of freedom, 0.1 %


def test_nucleus_is_the_smallest_set_with_that_mass():
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))
    for top_p, kept in [(0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 4]), (0.99, [0, 1, 2, 3, 4])]:
        ids, p = distribution(logits, SamplingParams(top_p=top_p))
        assert ids.tolist() == kept
        np.testing.assert_allclose(p, softmax(logits[kept]), rtol=1e-5)


def test_top_p_is_taken_of_what_top_k_left():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    ids, _ = distribution(logits, SamplingParams(top_k=2, top_p=0.55))
    assert ids.tolist() == [0]  # 0.4 of 0.7 is 0.57; of 1.0 it would not do


def test_min_p_is_relative_to_the_likeliest():
    logits = np.log(np.array([0.5, 0.26, 0.24], np.float32))
    assert distribution(logits, SamplingParams(min_p=0.5))[0].tolist() == [0, 1]
    assert distribution(logits, SamplingParams(min_p=1.0))[0].tolist() == [0]


def test_nucleus_of_a_flat_large_vocabulary_needs_more_than_the_first_candidates():
    logits = np.zeros(5_000, np.float32)
    logits[:10] = 0.1
    ids, _ = distribution(logits, SamplingParams(top_p=0.9))
    assert 4_480 < len(ids) < 4_520
    assert set(range(10)) <= set(ids.tolist())


def test_nucleus_looks_beyond_the_first_candidates_where_they_lack_the_mass():
    slope = np.linspace(1e-3, 0, 4_096, dtype=np.float32)  # all but flat, and no two tie
    ids, _ = distribution(slope, SamplingParams(top_p=0.9))
    assert ids.tolist() == list(range(3_687))
    assert len(distribution(np.zeros(4_096, np.float32), SamplingParams(top_p=0.9))[0]) == 3_687


def test_nucleus_keeps_the_likeliest_where_probabilities_tie():
    assert np.exp(np.float64(ALMOST_A_TIE[0])) == np.exp(np.float64(ALMOST_A_TIE[1]))
    assert distribution(ALMOST_A_TIE, SamplingParams(top_p=0.01))[0].tolist() == [1]


@given(logits_of_any_model, st.integers(0, 2**32))
def test_tiny_top_p_or_temperature_or_top_k_1_is_argmax(logits, seed):
    best = logits.max()
    for wish in ({"top_p": 1e-9}, {"temperature": 1e-30}, {"top_k": 1}):
        assert logits[choose(logits, seed=seed, **wish)] == pytest.approx(best, abs=1e-4)
    assert choose(logits, temperature=0) == int(logits.argmax())


@settings(max_examples=50)
@example(logits=ALMOST_A_TIE, temperature=1.0, top_k=0, top_p=0.0156, min_p=0.0)  # failed once by chance
@given(
    logits_of_any_model,
    st.floats(0.01, 5),
    st.integers(0, 60),
    st.floats(0.01, 1),
    st.floats(0, 1),
)
def test_the_distribution_is_one_whatever_the_settings(logits, temperature, top_k, top_p, min_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, p = distribution(logits, params)
    assert len(ids) == len(set(ids.tolist())) == len(p) > 0
    assert p.sum() == pytest.approx(1)
    assert (p >= 0).all()
    assert logits[ids].max() == logits.max()
    dropped = np.setdiff1d(np.arange(VOCAB), ids)
    if len(dropped) and temperature > 2:  # nothing likelier than what is kept was dropped
        assert logits[dropped].max() <= logits[ids].min() + 1e-4


@given(logits_of_any_model, st.integers(0, 2**32))
def test_same_seed_same_tokens(logits, seed):
    params = SamplingParams(temperature=1.3, top_p=0.95, seed=seed)
    runs = []
    for _ in range(2):
        sampler = Sampler(params, VOCAB)
        runs.append([sampler.choose(logits) for _ in range(10)])
    assert runs[0] == runs[1]


def test_different_seeds_differ():
    logits = np.zeros(1000, np.float32)
    assert draws(logits, SamplingParams(), 20, seed=1).tolist() != draws(logits, SamplingParams(), 20, seed=2).tolist()


def test_penalties_computed_by_hand():
    logits = np.array([2.0, -2.0, 1.0, 0.5], np.float32)
    history = History(4, prompt=[0, 1])
    history.add(2)
    history.add(2)
    penalized = penalize(logits, SamplingParams(repetition_penalty=2.0), history)
    assert penalized.tolist() == [1.0, -4.0, 0.5, 0.5]  # prompt and output; negative logits are multiplied
    near = np.array([-0.5, 0.0, 0.25, 0.5], np.float32)
    assert penalize(near, SamplingParams(repetition_penalty=2.0), history).tolist() == [-1.0, 0.0, 0.125, 0.5]
    penalized = penalize(logits, SamplingParams(presence_penalty=0.25), history)
    assert penalized.tolist() == [2.0, -2.0, 0.75, 0.5]  # the output only, once
    penalized = penalize(logits, SamplingParams(frequency_penalty=0.25), history)
    assert penalized.tolist() == [2.0, -2.0, 0.5, 0.5]  # the output only, per occurrence
    all_three = SamplingParams(repetition_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.125)
    assert penalize(logits, all_three, history).tolist() == [1.0, -4.0, 0.0, 0.5]
    assert logits.tolist() == [2.0, -2.0, 1.0, 0.5]  # untouched


def test_bias_is_added_and_decides():
    logits = np.array([5.0, 0.0, 0.0], np.float32)
    assert choose(logits, temperature=0, logit_bias={0: -100, 2: 1}) == 2
    with pytest.raises(MoedgeError, match="token 3, the model has 3"):
        choose(logits, logit_bias={3: 1})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_numbers_are_the_models_fault(bad):
    with pytest.raises(BrokenLogits, match="moedge verify"):
        choose(np.full(4, bad, np.float32))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("largest", "penalty"), [(3e38, {"repetition_penalty": 0.01}), (1.0, {"presence_penalty": -1e39})]
)
def test_a_penalty_that_leaves_no_numbers_is_the_callers_fault(largest, penalty, temperature):
    sampler = Sampler(SamplingParams(temperature=temperature, logit_bias={0: 1.0}, **penalty), 3, prompt=[0, 1, 2])
    assert sampler.choose(np.array([largest / 1e9, -1e9, -1e9], np.float32)) == 0 or "presence_penalty" in penalty
    with pytest.raises(MoedgeError, match="penalties make logits infinite") as error:
        sampler.choose(np.array([largest, -1.0, 0.0], np.float32))
    assert not isinstance(error.value, BrokenLogits)


def test_log_probabilities_are_of_the_raw_logits():
    logits = np.array([1000.0, 1001.0, 999.0], np.float32)
    expected = np.log(softmax(logits))
    assert log_softmax_at(logits, [2, 0], np.empty_like(logits)) == pytest.approx([expected[2], expected[0]], abs=1e-5)


def test_top_ids_are_sorted_with_ties_by_id():
    assert rank_largest(np.array([1, 3, 3, 2], np.float32), 3) == [1, 2, 3]
    assert rank_largest(np.array([1, 1, 1], np.float32), 2) == [0, 1]
    assert rank_largest(np.array([1, 2], np.float32), 5) == [1, 0]
    assert rank_largest(np.array([1, 2], np.float32), 0) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": -0.01},
        {"top_p": 1.01},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"seed": -1},
        {"repetition_penalty": 0},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
        {"max_tokens": 0},
        {"top_logprobs": -1},
        {"stop": ("a", "")},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: float("nan")}},
    ],
)
def test_bad_settings_are_refused_by_name(bad):
    (name,) = bad
    with pytest.raises(MoedgeError, match=f"^{name} is .* it must be"):
        SamplingParams(**bad)


def test_one_stop_string_may_stand_alone():
    assert SamplingParams(stop="end").stop == ("end",)


@given(
    logits_of_any_model,
    st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    st.integers(0, 10),
    st.sampled_from([1.0, 0.9, 0.3]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([1.0, 1.5]),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 5),
)
@settings(max_examples=200)
def test_log_probabilities_are_those_of_what_is_drawn_from(logits, temperature, top_k, top_p, min_p, again, said, top):
    """Against the definition, step by step: penalties, bias, temperature, top_k, top_p, min_p."""
    wishes = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": 1}
    penalties = {"repetition_penalty": again, "presence_penalty": said, "logit_bias": {3: 2.0}}
    params = SamplingParams(**wishes, **penalties, logprobs=True, top_logprobs=top)
    sampler = Sampler(params, VOCAB, prompt=(1, 2))
    first, second = sampler.pick(logits), sampler.pick(logits)
    history = History(VOCAB, (1, 2))
    for choice in (first, second):
        raw = penalize(logits, params, history).astype(np.float64)
        p = softmax(raw / (temperature or 1))
        if temperature and params.truncates:
            ids, kept = distribution(raw.astype(np.float32), params)
            p = np.zeros(VOCAB)
            p[ids] = kept
        assert choice.logprob == pytest.approx(np.log(p[choice.token_id]), abs=2e-3)
        assert len(choice.top_logprobs) == min(top, np.count_nonzero(p)) or not params.truncates
        for token_id, logprob in choice.top_logprobs:
            assert logprob == pytest.approx(np.log(p[token_id]), abs=2e-3)
        likeliest = sorted((chance for _, chance in choice.top_logprobs), reverse=True)
        assert likeliest == [chance for _, chance in choice.top_logprobs]
        history.add(choice.token_id)


def test_nothing_is_likely_beside_what_is_not_chosen():
    sampler = Sampler(SamplingParams(top_logprobs=3), 5)
    assert sampler.accept(4) == (4, 0.0, ((4, 0.0),))
    masked = np.array([1, -np.inf, 2, -np.inf, -np.inf], np.float32)
    assert {token_id for token_id, _ in sampler.pick(masked).top_logprobs} == {0, 2}
