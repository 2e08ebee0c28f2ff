"""moedge.Attention inside of ONNX Runtime against double precision: the direct way, and what is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attention_cases import ROW_TYPES, Case, error, expect, read_rows, run, write_rows
from native import needs_kernels

pytestmark = needs_kernels
PLAIN = Case()
CASES = {
    "plain": PLAIN,
    "one head": Case(heads=1, kv_heads=1),
    "eight heads a key head": Case(heads=16, kv_heads=2, dim=32, rotary=32),
    "three heads a key head": Case(heads=9, kv_heads=3, dim=64, rotary=64),
    "a wide head": Case(heads=2, kv_heads=1, dim=256, rotary=64),
    "odd sizes": Case(heads=6, kv_heads=2, dim=37, rotary=10),
    "a head of 80": Case(heads=4, kv_heads=4, dim=80, rotary=32),
    "narrower than a vector": Case(heads=2, kv_heads=1, dim=9, rotary=8),
    "no rotation": Case(rotary=0),
    "a window": Case(window=7),
    "a window of one": Case(window=1),
    "sinks": Case(sinks=True),
    "sinks and a window": Case(sinks=True, window=5, heads=8),
    "norms of heads": Case(norm="head"),
    "norms of all heads": Case(norm="whole", dim=24, rotary=24),
    "clipped": Case(clip=0.7),
    "normed and clipped": Case(clip=0.7, norm="head"),
    "all normed and clipped": Case(clip=0.7, norm="whole"),
    "exact": Case(activation_bits=24, capacity=700),
    "two sets of frequencies": Case(switch=20),
    "a head of 256 in a window": Case(heads=4, kv_heads=1, dim=256, rotary=256, window=11, norm="head", scale=1 / 16),
    "a head of 512": Case(heads=4, kv_heads=1, dim=512, rotary=512, scale=512**-0.5),
    "a head of 512 in a window": Case(heads=2, kv_heads=2, dim=512, rotary=128, window=19, scale=512**-0.5),
    "values of their own": Case(value="own", value_norm=0),
    "normed values": Case(value_norm=1, norm="head", heads=8, dim=24, rotary=24),
    "normed and clipped values": Case(value_norm=1, clip=0.7),
    "keys are values": Case(value="key", norm="head"),
    "keys are normed values": Case(value="key", value_norm=1, norm="head", heads=4, kv_heads=1, dim=512, rotary=64),
    "keys are clipped values": Case(value="key", clip=0.7, norm="whole"),
    "many runs": Case(capacity=1300, dim=32, rotary=32),
    "many runs and a window": Case(capacity=1300, window=300, sinks=True),
}
# Slot, tokens before, new tokens; fewer than 16 new ones, so that all is fp32.
SEGMENTS = {
    "one": [(1, 0, 1)],
    "some": [(2, 0, 9)],
    "deep": [(0, 50, 1)],
    "some deep": [(0, 41, 13)],
    "several": [(2, 17, 1), (0, 0, 5), (1, 30, 15)],
}


def both(case, segments, threads=1, size=1.0):
    """What it gives and what is right, and both caches afterwards."""
    qkv = case.projections(sum(new for *_, new in segments)) * np.float32(size)
    caches, wanted = case.caches(), case.caches()
    right = expect(case, qkv, wanted, segments)
    return run(case.open(threads), case, qkv, caches, segments), right, caches, wanted


@pytest.mark.parametrize("segments", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize("kind", ROW_TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_attention(case, kind, segments):
    case = replace(case, kind=kind)
    found, right, caches, wanted = both(case, segments)
    assert found.shape == right.shape
    # a row may be rounded the other way where fp32 differs from double precision
    assert error(found, right) < (1e-5 if kind == "float32" else 1e-3)
    for cache, rows in zip(caches, wanted, strict=True):
        assert (cache != rows).mean() < (0.2 if kind == "float32" else 0.02)


def test_runs_of_keys_far_down():
    """Several runs of keys, with the beginning out of sight or in it."""
    for segments in ([(0, 1200, 3)], [(1, 255, 2)], [(2, 511, 9), (0, 1023, 1)]):
        for name in ("many runs", "many runs and a window"):
            for kind in ROW_TYPES:
                found, right, *_ = both(replace(CASES[name], kind=kind), segments)
                assert error(found, right) < (1e-5 if kind == "float32" else 1e-3)


def test_exactly_of_many_tokens():
    for segment in ((0, 0, 600), (2, 300, 400)):
        case = Case(activation_bits=24, capacity=700, dim=64, rotary=64, scale=0.125)
        for window in (0, 100):
            found, right, *_ = both(replace(case, window=window), [segment])
            assert error(found, right) < 1e-5


@pytest.mark.parametrize("bits", [8, 24])
def test_threads_change_no_bit(bits):
    case = Case(heads=8, kv_heads=2, dim=64, rotary=64, capacity=1300, kind="float16", activation_bits=bits)
    for segments in ([(0, 1250, 1)], [(1, 1000, 9)], [(2, 600, 70), (0, 0, 3)]):
        qkv = case.projections(sum(new for *_, new in segments))
        outs = [run(case.open(threads), case, qkv, case.caches(), segments) for threads in (1, 2, 8)]
        assert all(np.array_equal(outs[0], out) for out in outs)


def test_a_token_alone_and_among_others():
    """Few tokens give the same bits however they are cut, and timelines do not meet."""
    case = Case(heads=8, kv_heads=2, dim=64, rotary=64, capacity=600, kind="int8")
    session, qkv, caches = case.open(2), case.projections(18), case.caches()
    whole = run(session, case, qkv, caches, [(0, 500, 9), (2, 40, 9)])
    again = case.caches()
    for i in range(9):
        for at, slot, past in ((0, 0, 500), (9, 2, 40)):
            row = slice(at + i, at + i + 1)
            assert np.array_equal(run(session, case, qkv[row], again, [(slot, past + i, 1)]), whole[row])
    assert all(np.array_equal(a, b) for a, b in zip(caches, again, strict=True))


def test_only_its_own_rows_are_written():
    case = Case(kind="float16")
    caches, before = case.caches(), case.caches()
    run(case.open(), case, case.projections(3), caches, [(1, 7, 3)])
    for cache, old in zip(caches, before, strict=True):
        other = np.ones(cache.shape, bool)
        other[1, :, 7:10] = False
        assert np.array_equal(cache[other], old[other])
        assert (cache[1, :, 7:10] != old[1, :, 7:10]).any()


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_large_scores_are_numbers(tokens):
    """Of scores of tens of thousands the largest takes all."""
    case = Case(dim=64, rotary=64, heads=2, kv_heads=1, size=60, scale=1.0, capacity=900)
    found, right, *_ = both(case, [(0, 850, tokens)], size=60)
    assert np.isfinite(found).all()
    if tokens < 16:
        assert error(found, right) < 1e-2


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 4, 6])  # of q, of k, of v
def test_what_is_no_number_stays_none(part, wrong):
    """And reaches nobody who does not see it."""
    case = Case(heads=4, kv_heads=2, dim=64, rotary=0, capacity=64)
    for tokens in (6, 30):
        qkv = case.projections(tokens)
        qkv[3, part * 64 + 5] = wrong
        out = run(case.open(), case, qkv, case.caches(), [(0, 2, tokens)])
        heads = out.reshape(tokens, 4, 64)
        reached = np.isnan(heads).any(-1)
        own = slice(0, 1) if part == 0 else slice(0, 2)
        unseen = part == 4 and wrong == np.inf  # a score of -inf
        assert reached[3, own].all() or unseen
        assert not reached[:, own.stop :].any()
        if part == 0:
            assert reached.sum() == 1
        elif part == 4 or tokens < 16:  # values are rounded with those of 32 tokens
            assert not reached[:3].any()
            assert reached[3:, own].all() or unseen


@pytest.mark.parametrize("tokens", [1, 5, 20])
def test_scores_that_are_all_minus_infinity_give_none(tokens):
    """Beside others such a key counts nothing, whichever run of keys it is in."""
    case = Case(heads=1, kv_heads=1, dim=32, rotary=0, scale=1.0, capacity=600, slots=1)
    for past in (0, 300):
        qkv, caches = case.projections(tokens), case.caches()
        qkv[:, :32], qkv[:, 32:64] = 1e30, -1e30
        caches[0][:] = write_rows(np.full((1, 1, 600, 32), -1e30, np.float32), case.kind)
        assert np.isnan(run(case.open(), case, qkv, caches, [(0, past, tokens)])).all()
    few, caches = case.projections(5), case.caches()
    few[:, :32], few[:, 32:64] = 1e30, -1e30
    for seen in (10, 280):
        caches[0][:] = write_rows(np.full((1, 1, 600, 32), -1e30, np.float32), case.kind)
        caches[0][0, 0, seen] = write_rows(np.zeros(32, np.float32), case.kind)
        found = run(case.open(), case, few, caches, [(0, 300, 5)])
        assert np.allclose(found, read_rows(caches[1][0, 0, seen], case.kind, 32), rtol=1e-6)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_far_down_sums_of_runs_take_no_more_memory():
    """They are put together some at a time, to the same bits as of tokens alone, which need less."""
    case = Case(heads=64, kv_heads=4, dim=128, rotary=0, kind="int8", capacity=1, slots=1)
    caches = [np.zeros((1, 4, 40000, 144), np.uint8) for _ in range(2)]
    rng = np.random.default_rng(3)
    for cache in caches:
        cache[:, :, ::500] = write_rows(rng.standard_normal((1, 4, 80, 128)).astype(np.float32), case.kind)
    session, qkv = case.open(), case.projections(6)
    run(session, case, qkv, caches, [(0, 0, 6)])
    before = resident_bytes()
    whole = run(session, case, qkv, caches, [(0, 39990, 6)])
    assert resident_bytes() - before < 20 << 20  # all sums at once would be 31 MB
    for i in range(6):
        alone = run(session, case, qkv[i : i + 1], caches, [(0, 39990 + i, 1)])
        assert np.array_equal(alone[0], whole[i])


REFUSED = {
    "a slot below": ([(-1, 0, 2)], "slot is outside"),
    "a slot beyond": ([(3, 0, 2)], "slot is outside"),
    "a past below": ([(0, -1, 2)], "positions are outside of the cache"),
    "a past beyond": ([(0, 63, 2)], "positions are outside of the cache"),
    "a past that overflows": ([(0, 2**63 - 1, 2)], "positions are outside of the cache"),
    "a negative number of tokens": ([(0, 4, -1), (1, 0, 3)], "positions are outside of the cache"),
    "more tokens": ([(0, 0, 1), (1, 0, 2)], "more tokens than there are"),
    "fewer tokens": ([(0, 0, 1)], "fewer tokens than there are"),
    "one slot twice": ([(1, 0, 1), (1, 1, 1)], "two segments have the same slot"),
}


@pytest.mark.parametrize(("segments", "why"), REFUSED.values(), ids=REFUSED)
def test_segments_that_are_refused(segments, why):
    with pytest.raises(Exception, match=why):
        run(PLAIN.open(), PLAIN, PLAIN.projections(2), PLAIN.caches(), segments)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"cos": (63, 8)}, "the rotary tables do not fit"),
        ({"cos": (63, 8), "sin": (63, 8)}, "outside of the rotary tables"),
        ({"cos": (64, 7), "sin": (64, 7)}, "the rotary tables do not fit"),
        ({"qkv": (2, 127)}, "the projections do not fit"),
        ({"qkv": (2, 96)}, "the projections do not fit"),
        ({"q_norm": (15,)}, "the norms do not fit"),
        ({"k_norm": (32,)}, "the norms do not fit"),
        ({"sinks": (2,)}, "the sinks do not fit"),
    ],
)
def test_shapes_that_are_refused(changed, why):
    case = Case(norm="head", sinks=True)
    others = {name: np.zeros(shape, np.float32) for name, shape in changed.items()}
    with pytest.raises(Exception, match=why):
        run(case.open(), case, case.projections(2), case.caches(), [(0, 62, 2)], others)


def test_caches_that_are_refused():
    session, qkv = PLAIN.open(), PLAIN.projections(2)
    for shape, why in (((3, 2, 64, 65), "length of no type"), ((3, 1, 64, 64), "the caches do not fit")):
        with pytest.raises(Exception, match=why):
            run(session, PLAIN, qkv, [np.zeros(shape, np.uint8) for _ in range(2)], [(0, 0, 2)])
    with pytest.raises(Exception, match="the caches do not fit"):
        run(session, PLAIN, qkv, [PLAIN.caches()[0], PLAIN.caches()[1][:2]], [(0, 0, 2)])
    with pytest.raises(Exception, match="not bound as input and output at once"):
        session.run(
            None,
            {"qkv": qkv, "segments": np.array([[0, 0, 2]]), **PLAIN.tables}
            | dict(zip(("past_key", "past_value"), PLAIN.caches(), strict=True)),
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [("heads", 3), ("kv_heads", 0), ("dim", 0), ("rotary", 15), ("rotary", 18), ("window", -1), ("norm", "some"),
     ("clip", -1.0), ("activation_bits", 16), ("switch", -1), ("value", "queries"), ("value", 1), ("value_norm", 2),
     ("value_norm", 1.0)],
)  # fmt: skip
def test_attributes_that_are_refused(name, value):
    case = replace(PLAIN)
    object.__setattr__(case, name, value)
    with pytest.raises(Exception, match=r"moedge\.Attention: attribute"):
        case.open()
