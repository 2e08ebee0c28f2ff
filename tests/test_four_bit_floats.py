"""Four-bit floats and their scales: every code and number by hand, rounding by brute force, factors of matrices."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moedge.quant.blocks import Codes, dequantize, join_matrices, quantize
from moedge.quant.channel_factors import ReadBy, choose_factors
from moedge.quant.four_bit_floats import NUMBERS, codes_of, find_scales, nearest_number, spread_scales, suit
from moedge.quant.gptq_rounding import gptq, learn_inputs
from moedge.quant.scheme import MXFP4, NVFP4, parse_scheme
from moedge.quant.search import SEARCHED, search, split

RNG = np.random.default_rng(0)
# heavy tails, and columns that differ in size, as weights have
WEIGHTS = (RNG.standard_t(4, (24, 192)) * RNG.uniform(0.2, 2, 192) * 0.02).astype(np.float32)
ON_THEIR_OWN = np.ones(192, np.float32)
SCHEMES = {"mxfp4": MXFP4, "nvfp4": suit(NVFP4, float(np.abs(WEIGHTS).max()))}
SCALES = {"mxfp4": ml_dtypes.float8_e8m0fnu, "nvfp4": ml_dtypes.float8_e4m3fn}


def error(codes: Codes, weights=WEIGHTS, importance=ON_THEIR_OWN) -> float:
    exact = weights.astype(np.float64)
    return float((np.square(dequantize(codes) - exact) @ importance).sum() / (np.square(exact) @ importance).sum())


def test_every_code_is_the_number_that_other_code_reads():
    theirs = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert np.array_equal(NUMBERS, theirs)
    assert np.array_equal(NUMBERS[codes_of(NUMBERS)], NUMBERS)


@given(arrays(np.float32, 16, elements=st.floats(-7, 7, width=32)))
def test_rounding_is_to_the_nearest_number_and_ties_go_to_even_codes(values):
    held = np.clip(values, -6, 6)
    assert np.array_equal(nearest_number(values), held.astype(ml_dtypes.float4_e2m1fn).astype(np.float32))


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("rounded", [quantize, lambda w, s: SEARCHED("m", w, s)])
def test_scales_are_numbers_of_their_type_and_codes_the_nearest_on_them(name, rounded):
    scheme = SCHEMES[name]
    codes = rounded(WEIGHTS, scheme)
    assert (codes.codes.shape, codes.scales.shape) == ((24, 96), (24, 192 // scheme.block))
    assert np.array_equal(codes.scales.astype(SCALES[name]).astype(np.float32), codes.scales)
    effective = np.repeat(codes.scales * np.float32(codes.factor), scheme.block, axis=1)
    distance = np.abs(NUMBERS[:, None, None] * effective - WEIGHTS)
    assert np.allclose(np.abs(dequantize(codes) - WEIGHTS), distance.min(0), rtol=1e-6, atol=1e-9)
    assert np.frexp(codes.factor)[0] == 0.5  # a power of two: the kernel multiplies by it exactly
    grid = dequantize(codes).astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(grid, dequantize(codes))  # which is what it makes of weights


@pytest.mark.parametrize("name", SCHEMES)
def test_rows_do_not_depend_on_one_another(name):
    whole = search(WEIGHTS, SCHEMES[name], ON_THEIR_OWN)
    some = search(WEIGHTS[7:11], SCHEMES[name], ON_THEIR_OWN)
    assert all(np.array_equal(a, b) for a, b in zip(some.arrays, whole.rows(slice(7, 11)).arrays, strict=True))


def test_what_each_scheme_loses():
    """The order that every comparison of these formats has: finer scales beat powers of two, a search beats neither."""
    nearest = {name: error(quantize(WEIGHTS, scheme)) for name, scheme in SCHEMES.items()}
    searched = {name: error(search(WEIGHTS, scheme, ON_THEIR_OWN)) for name, scheme in SCHEMES.items()}
    assert nearest["nvfp4"] < 0.011 < nearest["mxfp4"] < 0.025
    assert all(searched[name] < 0.97 * nearest[name] for name in SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_search_serves_the_columns_that_count(name):
    importance = np.where(np.arange(192) % 16 == 3, 50, 0.1).astype(np.float32)
    known, blind = (search(WEIGHTS, SCHEMES[name], counted) for counted in (importance, ON_THEIR_OWN))
    assert error(known, importance=importance) < 0.9 * error(blind, importance=importance)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_search_finds_the_best_of_all_scales_near_the_range(name):
    scheme = SCHEMES[name]
    blocks = split(WEIGHTS, scheme)
    found = find_scales(blocks, np.ones(blocks.shape[1:], np.float32), scheme)
    every = np.arange(1, 255, dtype=np.uint8).view(SCALES[name]).astype(np.float32)
    every = every[np.isfinite(every) & (every > 0)]

    def lost(scales):
        effective = (scales * np.float32(scheme.factor))[..., None]
        return np.square(nearest_number(blocks / effective) * effective - blocks).sum(-1)

    best = np.min([lost(np.full(found.shape, scale)) for scale in every], axis=0)
    assert np.allclose(lost(found), best, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_zeros_small_and_large_weights_and_what_has_no_code(name):
    scheme = parse_scheme(name)
    assert not dequantize(quantize(np.zeros((2, 64), np.float32), scheme)).any()
    for size in (1e-30, 1e-6, 1, 1e20):
        weights = WEIGHTS[:, :64] * np.float32(size)
        suited = suit(scheme, float(np.abs(weights).max()))
        assert error(quantize(weights, suited), weights, ON_THEIR_OWN[:64]) < 0.03
    broken = WEIGHTS.copy()
    broken[3, 4] = np.inf
    for rounded in (quantize, lambda w, s: search(w, s, ON_THEIR_OWN)):
        with pytest.raises(ValueError, match="NaN and infinity have no code"):
            rounded(broken, scheme)


def test_a_factor_leaves_room_above_the_largest_scale():
    for largest in (1e-9, 0.02, 1, 6, 3000):
        suited = suit(NVFP4, largest)
        [[scale]] = spread_scales(np.full((1, 1, 16), largest, np.float32), suited)
        assert 120 <= scale <= 256
    assert suit(MXFP4, 3.0) is MXFP4
    assert suit(parse_scheme("int4"), 3.0) == parse_scheme("int4")
    assert suit(NVFP4, 0.0) == NVFP4


def test_codes_of_two_factors_share_no_matrix():
    gate, up = (quantize(WEIGHTS, replace(NVFP4, factor=factor)) for factor in (0.5, 0.25))
    with pytest.raises(AssertionError, match="share no matrix"):
        join_matrices([gate, up], np.concatenate)


def test_what_was_published_with_factors_of_its_own_is_no_scheme_to_round_to():
    with pytest.raises(AssertionError, match="nothing is rounded to it"):
        quantize(WEIGHTS, replace(NVFP4, factor=None))


def test_channel_factors_are_tried_on_weights_of_any_size():
    """Whose factor is found for the trial: at 1, weights this small would have no scales."""
    channels = np.where(np.arange(192) == 5, 400.0, 1.0).astype(np.float32)
    for size in (1, 1e-4):
        reader = ReadBy(WEIGHTS * np.float32(size), channels, NVFP4, lambda c: c)
        factors = choose_factors(channels, [reader])
        assert factors is not None
        assert factors.argmax() == 5


MIXED = RNG.standard_normal((192, 192)).astype(np.float32) / 14
SIZES = np.exp(RNG.normal(0, 1.2, 192)).astype(np.float32)


def draw_inputs(tokens: int) -> np.ndarray:
    """Activations of unequal channels that depend on one another."""
    free, bound = (RNG.standard_normal((tokens, 192)).astype(np.float32) for _ in range(2))
    return (free @ MIXED + 0.5 * bound) * SIZES


@pytest.mark.parametrize("name", SCHEMES)
def test_gptq_beats_a_search_on_inputs_that_it_has_not_seen(name):
    seen, unseen = draw_inputs(3000), draw_inputs(1500)

    def damage(codes):
        return np.square(unseen @ (dequantize(codes) - WEIGHTS).T).sum() / np.square(unseen @ WEIGHTS.T).sum()

    scheme, inputs = SCHEMES[name], learn_inputs(seen.T @ seen / len(seen), 0.01)
    nearest, searched = quantize(WEIGHTS, scheme), search(WEIGHTS, scheme, np.square(seen).mean(0))
    by_gptq = gptq(WEIGHTS, scheme, inputs)
    assert damage(searched) < 0.8 * damage(nearest)
    assert damage(by_gptq) < 0.85 * damage(searched)
    assert np.array_equal(by_gptq.scales.astype(SCALES[name]).astype(np.float32), by_gptq.scales)
    assert by_gptq.factor == scheme.factor
    some = gptq(WEIGHTS[5:9], scheme, inputs)
    assert np.array_equal(some.codes, by_gptq.codes[5:9])


@pytest.mark.parametrize("name", SCHEMES)
def test_columns_that_were_silent_are_searched_all_the_same(name):
    silent = search(WEIGHTS, SCHEMES[name], np.zeros(192, np.float32))
    blind = search(WEIGHTS, SCHEMES[name], ON_THEIR_OWN)
    assert error(silent) < 1.001 * error(blind)
