"""Rounding that knows its inputs: searched grids and GPTQ against round to nearest, and against brute force."""

import numpy as np
import pytest

from moedge.quant.blocks import dequantize, quantize
from moedge.quant.channel_factors import ReadBy, choose_factors
from moedge.quant.gptq_rounding import gptq, learn_inputs
from moedge.quant.scheme import parse_scheme
from moedge.quant.search import search

SCHEMES = ["int4-block32", "int4-block32-zp", "int4-block64", "int4-block64-zp"]
RNG = np.random.default_rng(0)
WEIGHTS = (RNG.standard_t(5, (96, 256)) * 0.02).astype(np.float32)
SIZES = np.exp(RNG.normal(0, 1.5, 256)).astype(np.float32)
MIXED = RNG.standard_normal((256, 256)).astype(np.float32) / 16


def draw_inputs(tokens, seed):
    """Activations [tokens, 256] of unequal channels that depend on one another."""
    rng = np.random.default_rng(seed)
    free, bound = (rng.standard_normal((tokens, 256)).astype(np.float32) for _ in range(2))
    return (free @ MIXED + 0.5 * bound) * SIZES


def damage(codes, x):
    """The mean square of what rounding changes in the products of inputs x, relative to these."""
    return np.square(x @ (dequantize(codes) - WEIGHTS).T).sum() / np.square(x @ WEIGHTS.T).sum()


SEEN, UNSEEN = draw_inputs(4000, 1), draw_inputs(2000, 2)
MOMENTS = np.square(SEEN).mean(0)
HESSIAN = SEEN.T @ SEEN / len(SEEN)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_method_beats_the_one_before_on_inputs_that_it_has_not_seen(scheme):
    scheme = parse_scheme(scheme)
    nearest = damage(quantize(WEIGHTS, scheme), UNSEEN)
    searched = damage(search(WEIGHTS, scheme, MOMENTS), UNSEEN)
    assert searched < 0.5 * nearest
    assert damage(gptq(WEIGHTS, scheme, learn_inputs(HESSIAN, 0.01)), UNSEEN) < 0.85 * searched


@pytest.mark.parametrize("scheme", SCHEMES)
def test_search_without_weights_is_no_worse_than_nearest_in_any_block(scheme):
    scheme = parse_scheme(scheme)

    def errors(codes):
        return np.square(dequantize(codes) - WEIGHTS).reshape(-1, scheme.block).sum(-1)

    ones = np.ones(256, np.float32)
    found, nearest = errors(search(WEIGHTS, scheme, ones)), errors(quantize(WEIGHTS, scheme))
    assert (found <= nearest * 1.0001).mean() > 0.98  # it tries some grids, not that of each block's very nearest
    assert found.sum() < 0.95 * nearest.sum()


def test_search_is_near_the_best_of_all_grids():
    """Every zero point with a fine row of scales, for some blocks."""
    scheme = parse_scheme("int4-block32-zp")
    blocks, weights, ratios = WEIGHTS[:20, :64].reshape(-1, 32), MOMENTS[:64], []
    found = dequantize(search(np.ascontiguousarray(WEIGHTS[:20, :64]), scheme, weights)).reshape(-1, 32)
    for place, block in enumerate(blocks):
        h = weights.reshape(2, 32)[place % 2]
        best = np.inf
        scales = (np.linspace(0.02, 1.2, 200) * (block.max() - block.min()) / 15)[:, None]
        for zero in range(16):
            rounded = (np.clip(np.rint(block / scales + zero), 0, 15) - zero) * scales
            best = min(best, (h * (block - rounded) ** 2).sum(-1).min())
        ratios.append((h * (block - found[place]) ** 2).sum() / best)
    assert np.mean(ratios) < 1.3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_are_independent(scheme):
    scheme, inputs = parse_scheme(scheme), learn_inputs(HESSIAN)
    for method in (lambda w: search(w, scheme, MOMENTS), lambda w: gptq(w, scheme, inputs)):
        whole, part = method(WEIGHTS), method(WEIGHTS[30:50])
        assert np.array_equal(whole.rows(slice(30, 50)).codes, part.codes)
        assert np.allclose(whole.scales[30:50], part.scales, rtol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_zeros_and_constants_come_back(scheme):
    scheme = parse_scheme(scheme)
    flat = np.zeros((3, 256), np.float32)
    flat[1], flat[2, :7] = 0.25, -3.0
    for method in (lambda w: search(w, scheme, MOMENTS), lambda w: gptq(w, scheme, learn_inputs(HESSIAN))):
        codes = method(flat)
        assert np.isfinite(codes.scales).all()
        assert (codes.scales != 0).all()
        assert np.array_equal(dequantize(codes)[0], flat[0])
        assert np.abs(dequantize(codes) - flat).max() < 0.3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_no_code_is_refused(bad):
    scheme, weights = parse_scheme("int4-block32-zp"), WEIGHTS.copy()
    weights[3, 5] = bad
    for method in (lambda w: search(w, scheme, MOMENTS), lambda w: gptq(w, scheme, learn_inputs(HESSIAN))):
        with pytest.raises(ValueError, match="NaN and infinity"):
            method(weights)
    with pytest.raises(ValueError, match="activations"):
        learn_inputs(HESSIAN * np.float32(bad))


@pytest.mark.parametrize("size", [1, 7, 128, 129, 256])
def test_the_factor_is_of_the_inverse(size):
    inputs = learn_inputs(HESSIAN[:size, :size], 0.1)
    moments = HESSIAN[:size, :size].astype(np.float64)
    moments[np.diag_indices(size)] += 0.1 * np.diagonal(moments).mean()
    inverse = np.linalg.inv(moments)[np.ix_(inputs.order, inputs.order)]
    assert np.array_equal(np.triu(inputs.factor), inputs.factor)
    assert np.allclose(inputs.factor.T @ inputs.factor, inverse, rtol=1e-3, atol=1e-5 * np.abs(inverse).max())


def test_inputs_that_are_all_zero_or_few_are_no_harm():
    scheme = parse_scheme("int4-block32-zp")
    nearest = damage(quantize(WEIGHTS, scheme), UNSEEN)
    silent = gptq(WEIGHTS, scheme, learn_inputs(np.zeros((256, 256), np.float32)))
    assert damage(silent, UNSEEN) < 1.2 * nearest
    few = SEEN[:3]
    assert damage(gptq(WEIGHTS, scheme, learn_inputs(few.T @ few / 3)), UNSEEN) < 2 * nearest


def test_factors_spare_the_columns_that_count():
    scheme = parse_scheme("int4-block32-zp")
    reader = ReadBy(WEIGHTS, MOMENTS, scheme, lambda channels: channels)
    factors = choose_factors(MOMENTS, [reader])
    scaled = dequantize(quantize(WEIGHTS * factors, scheme)) / factors
    before = np.square(UNSEEN @ (dequantize(quantize(WEIGHTS, scheme)) - WEIGHTS).T).sum()
    assert np.square(UNSEEN @ (scaled - WEIGHTS).T).sum() < 0.8 * before
    assert np.corrcoef(np.log(factors), np.log(MOMENTS))[0, 1] > 0.99


def test_no_factors_where_none_help():
    even = np.ones(256, np.float32)
    assert choose_factors(even, [ReadBy(WEIGHTS, even, parse_scheme("int4-block32"), lambda c: c)]) is None
    assert choose_factors(0 * even, [ReadBy(WEIGHTS, 0 * even, parse_scheme("int4-block32"), lambda c: c)]) is None
