"""The figures of fidelity against the plainest arithmetic that says the same, and by hand."""

import math

import numpy as np
import pytest

from moedge.quant import fidelity
from moedge.quant.fidelity import choose_top, diverge, join, relative_error, share_experts, summarize


def drawn(seed, n=50, vocab=37):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((n, vocab)).astype(np.float32) * 3
    logits = reference + rng.standard_normal((n, vocab)).astype(np.float32)
    return reference, logits, rng.integers(0, vocab, n)


def softmax(row):
    return [math.exp(x) / sum(math.exp(y) for y in row) for x in row]


def test_a_divergence_is_the_sum_that_defines_it():
    reference, logits, following = drawn(0)
    found = diverge(reference, logits, following)
    for i, token in enumerate(following):
        p, q = softmax(reference[i].tolist()), softmax(logits[i].tolist())
        assert found.kl[i] == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-9)
        assert found.same_top[i] == (p.index(max(p)) == q.index(max(q)))
        assert found.reference_surprise[i] == pytest.approx(-math.log(p[token]), rel=1e-9)
        assert found.surprise[i] == pytest.approx(-math.log(q[token]), rel=1e-9)
    assert 0 < found.same_top.mean() < 1


def test_two_tokens_by_hand():
    """p = (1/2, 1/2), q = (3/4, 1/4): KL = ln 2 - (ln 3) / 2; the next token is the second."""
    reference, logits = np.array([[5.0, 5.0]], np.float32), np.array([[math.log(3), 0.0]], np.float32)
    figures = summarize([diverge(reference, logits, np.array([1]))])
    assert figures.kl_mean == pytest.approx(math.log(2) - math.log(3) / 2, abs=1e-7)
    assert figures.perplexity == pytest.approx(4)
    assert figures.reference_perplexity == pytest.approx(2)
    assert figures.kl_se is None


def test_logits_are_compared_in_pieces_and_large_ones_without_overflow(monkeypatch):
    reference, logits, following = drawn(1)
    whole = diverge(reference, logits, following)
    monkeypatch.setattr(fidelity, "_PIECE", 37 * 7)
    pieces = diverge(reference + 5000, logits - 5000, following)
    assert np.allclose(pieces.kl, whole.kl, rtol=0, atol=0.01)
    assert np.array_equal(pieces.same_top, whole.same_top)


def test_the_same_logits_do_not_diverge():
    reference, _, following = drawn(2)
    figures = summarize([diverge(reference, reference, following)])
    assert (figures.kl_mean, figures.kl_p99, figures.top1) == (0, 0, 1)
    assert figures.perplexity == figures.reference_perplexity > 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_is_no_figure(wrong):
    reference, logits, following = drawn(3)
    logits[4, 7] = wrong
    with pytest.raises(ValueError, match="NaN or infinity"):
        diverge(reference, logits, following)


def test_a_summary_is_of_all_positions_and_its_error_of_windows():
    windows = [diverge(*drawn(seed)) for seed in range(5)]
    every, figures = join(windows), summarize(windows)
    kl = sorted(every.kl)
    assert len(kl) == 250
    assert figures.kl_mean == pytest.approx(sum(kl) / 250)
    means = [sum(window.kl) / 50 for window in windows]
    spread = math.sqrt(sum((mean - figures.kl_mean) ** 2 for mean in means) / 4)
    assert figures.kl_se == pytest.approx(spread / math.sqrt(5))
    assert figures.kl_median == pytest.approx((kl[124] + kl[125]) / 2)
    assert kl[245] <= figures.kl_p99 <= kl[247]
    assert figures.perplexity == pytest.approx(math.exp(sum(every.surprise) / 250))


def test_experts_are_shared_whatever_their_order():
    scores = np.array([[0.1, 0.9, -np.inf, 0.5, 0.3], [3, 2, 1, 0, -1]], np.float32)
    chosen = choose_top(scores, 3)
    assert [sorted(row) for row in chosen.tolist()] == [[1, 3, 4], [0, 1, 2]]
    shares = share_experts(np.array([[4, 3, 1], [2, 3, 4]]), chosen)
    assert shares.tolist() == pytest.approx([1, 1 / 3])


def test_an_error_is_relative_to_the_exact_state():
    exact, off = np.array([[3, 4], [0, 2]], np.float32), np.array([[3, 4], [1, 2]], np.float32)
    assert relative_error(exact, off).tolist() == [0, 0.5]
