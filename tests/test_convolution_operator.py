"""moedge.ShortConvolution inside of ONNX Runtime against double precision."""

import numpy as np
import pytest
from attention_cases import error
from latent_cases import Convolution, run_node
from native import needs_kernels

pytestmark = needs_kernels
CASES = {
    "plain": Convolution(),
    "wide": Convolution(hidden=1100),
    "narrow": Convolution(hidden=7),
    "four taps and a bias": Convolution(kernel=4, bias=True),
    "one tap": Convolution(kernel=1),
    "more taps than tokens": Convolution(kernel=40),
}


@pytest.mark.parametrize("step", [1, 2, 5, 60])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_timeline_in_steps(case, step):
    joined, cache, session = case.given(60)["joined"], case.cache(), case.open(2)
    found = [
        run_node(session, {"joined": joined[at : at + step]}, [(1, at, len(joined[at : at + step]))], cache)
        for at in range(0, 60, step)
    ]
    assert error(np.concatenate(found), case.expect(joined)) < 1e-6
    rows = cache.view(np.float32)
    assert np.isnan(rows[[0, 2]]).all()
    assert np.isnan(rows[1, 0, 60:]).all()


def test_a_timeline_is_the_same_beside_others():
    case = Convolution(hidden=600, slots=4)
    joined = [case.given(30, seed)["joined"] for seed in range(3)]
    cache, alone = case.cache(), case.cache()
    first, second = case.open(1), case.open(8)
    whole = [run_node(first, {"joined": part}, [(i, 0, 30)], alone) for i, part in enumerate(joined)]
    mixed = [
        run_node(second, {"joined": np.concatenate([joined[2][:11], joined[0][:20], joined[1][:1]])},
                 [(2, 0, 11), (0, 0, 20), (1, 0, 1)], cache),
        run_node(second, {"joined": np.concatenate([joined[1][1:], joined[0][20:], joined[2][11:]])},
                 [(1, 1, 29), (0, 20, 10), (2, 11, 19)], cache),
    ]  # fmt: skip
    assert np.array_equal(whole[2], np.concatenate([mixed[0][:11], mixed[1][39:]]))
    assert np.array_equal(whole[0], np.concatenate([mixed[0][11:31], mixed[1][29:39]]))
    assert np.array_equal(whole[1], np.concatenate([mixed[0][31:], mixed[1][:29]]))
    assert np.array_equal(alone[:3], cache[:3], equal_nan=False) or np.array_equal(
        alone.view(np.float32)[:3], cache.view(np.float32)[:3], equal_nan=True
    )


def test_a_timeline_goes_back_and_on():
    """Tokens after the rollback are others, and those before it are read from the rows."""
    case = Convolution()
    joined, other = case.given(40)["joined"], case.given(40, seed=5)["joined"]
    cache, session = case.cache(), case.open()
    run_node(session, {"joined": joined}, [(0, 0, 40)], cache)
    found = run_node(session, {"joined": other[25:]}, [(0, 25, 15)], cache)
    assert error(found, case.expect(np.concatenate([joined[:25], other[25:]]))[25:]) < 1e-6


def test_what_does_not_fit_is_refused():
    case = Convolution()
    joined, cache, session = case.given(4)["joined"], case.cache(), case.open()
    with pytest.raises(Exception, match=r"moedge\.ShortConvolution: a segment's slot is outside"):
        run_node(session, {"joined": joined}, [(3, 0, 4)], cache)
    with pytest.raises(Exception, match="positions are outside of the cache"):
        run_node(session, {"joined": joined}, [(0, 61, 4)], cache)
    with pytest.raises(Exception, match="the projections do not fit"):
        run_node(session, {"joined": joined[:, 1:].copy()}, [(0, 0, 4)], cache)
    with pytest.raises(Exception, match="the cache does not fit"):
        run_node(session, {"joined": joined}, [(0, 0, 4)], np.zeros((1, 1, 64, 96), np.uint8))
    with pytest.raises(Exception, match="weights do not fit"):
        run_node(case.open(kernel=2), {"joined": joined}, [(0, 0, 4)], cache)
