"""moedge.Attention with many tokens, whose products are of int8 numbers: how far from double precision, and of what."""

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import ROW_TYPES, Case, attend, error, expect, run, write_rows
from native import needs_kernels
from test_attention_operator import CASES

pytestmark = needs_kernels
DEEP = Case(heads=4, kv_heads=2, dim=64, rotary=64, scale=0.125, capacity=3000)


def both(case, segments, threads=1):
    """What it gives, and what is right."""
    qkv = case.projections(sum(new for *_, new in segments), 3) * np.float32(case.size)
    right = expect(case, qkv, case.caches(), segments)
    return run(case.open(threads), case, qkv, case.caches(), segments), right


@pytest.mark.parametrize("segments", [[(1, 0, 16)], [(2, 0, 50)], [(0, 13, 51), (2, 0, 3), (1, 33, 19)]])
@pytest.mark.parametrize("kind", ROW_TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_attention(case, kind, segments):
    found, right = both(replace(case, kind=kind), segments)
    assert error(found, right) < 0.03
    if case.activation_bits == 24:
        assert error(found, right) < (1e-5 if kind == "float32" else 1e-3)


@pytest.mark.parametrize("kind", ROW_TYPES)
@pytest.mark.parametrize("window", [0, 300, 1100])
@pytest.mark.parametrize("segment", [(0, 0, 700), (2, 2400, 600), (1, 1023, 100), (1, 511, 33)])
def test_deep_in_a_timeline(kind, window, segment):
    for sinks in (False, True):
        found, right = both(replace(DEEP, kind=kind, window=window, sinks=sinks), [segment])
        assert error(found, right) < 0.015


def in_tiles(q, keys, values, tokens, scale=None):
    """The last `tokens` rows of one head over given q, keys, values [positions, dim], unrotated, and what is right."""
    total, dim = keys.shape
    case = Case(heads=1, kv_heads=1, dim=dim, rotary=0, scale=scale or dim**-0.5, capacity=total, slots=1)
    caches = [write_rows(x[None, None].astype(np.float32), case.kind) for x in (keys, values)]
    past = total - tokens
    qkv = np.concatenate([q, keys[past:], values[past:]], axis=1).astype(np.float32)
    right = attend(q[:, None] * case.scale, keys[None], values[None], past)
    return run(case.open(2), case, qkv, caches, [(0, past, tokens)]), right.reshape(tokens, dim)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("dim", [64, 128])
def test_errors_are_those_of_rounded_activations(dim):
    """About a hundredth of random numbers; where few keys take all, it is that of their scores."""
    rng = np.random.default_rng(5)
    keys, values = normal(rng, 2000, dim), normal(rng, 2000, dim)
    q = normal(rng, 64, dim)
    assert error(*in_tiles(q, keys, values, 64)) < 0.012
    assert error(*in_tiles(4 * q, keys, values, 64)) < 0.04


def test_a_long_flat_tail_is_not_lost():
    """8,000 keys that count alike beside one that counts as much as 2,000 of them."""
    rng = np.random.default_rng(6)
    keys, values = 0.02 * normal(rng, 8064, 64), normal(rng, 8064, 64) + 1
    q = normal(rng, 64, 64)
    q[:] = q[0]
    keys[4000] = q[0] * np.log(2000) * 8 / (q[0] @ q[0])
    values[4000] = -3
    found, right = in_tiles(q, keys, values, 64)
    shares = (found - values[4000]) / (values[:4000].mean(0) - values[4000]), 8063 / (8063 + 2000)
    assert abs(shares[0].mean() - shares[1]) < 0.01
    assert np.abs(found - right).max() < 0.02  # of values about 1


def test_pieces_of_a_prompt_are_the_whole():
    """A prompt of many heads is taken in pieces."""
    case = Case(heads=32, kv_heads=2, dim=256, rotary=64, scale=0.0625, capacity=700, slots=1, kind="float16")
    found, right = both(case, [(0, 100, 600)], threads=2)
    assert error(found, right) < 0.015


def test_pieces_are_each_timelines_own():
    """Between others, each of which is itself more than a piece or a part of one, a long one is cut as alone."""
    case = Case(heads=32, kv_heads=2, dim=256, rotary=64, scale=0.0625, capacity=700, slots=4, kind="float16")
    segments = [(3, 40, 1), (0, 100, 600), (1, 7, 200), (2, 0, 90)]
    qkv, session = case.projections(891, 3), case.open(2)
    whole, at = run(session, case, qkv, case.caches(), segments), 0
    for segment in segments:
        rows = slice(at, at := at + segment[2])
        alone = run(session, case, np.ascontiguousarray(qkv[rows]), case.caches(), [segment])
        assert np.array_equal(alone, whole[rows])
