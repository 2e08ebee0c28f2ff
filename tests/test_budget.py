"""Bits under a budget: never above it, never worse for more, and as good as any other choice of as many bytes."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moedge.quant.budget import Rung, cheapest, reach_error, spend_bytes

RUNGS = st.builds(Rung, st.integers(1, 1000), st.floats(0, 10, allow_subnormal=False))
LADDERS = st.lists(st.lists(RUNGS, min_size=1, max_size=5), min_size=1, max_size=8)


def total(ladders, rungs):
    chosen = [ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
    return sum(rung.nbytes for rung in chosen), sum(rung.error for rung in chosen)


@given(LADDERS, st.integers(0, 8000), st.integers(0, 2000))
def test_bytes_are_never_exceeded_and_more_never_hurt(ladders, nbytes, more):
    least, _ = total(ladders, cheapest(ladders))
    if nbytes < least:
        with pytest.raises(ValueError, match=f"the least that it takes is {least} bytes"):
            spend_bytes(ladders, nbytes)
        return
    used, error = total(ladders, spend_bytes(ladders, nbytes))
    assert used <= nbytes
    assert total(ladders, spend_bytes(ladders, nbytes + more))[1] <= error + 1e-9


@given(LADDERS, st.floats(0, 40))
def test_an_error_is_reached_wherever_it_can_be(ladders, error):
    best = sum(min(rung.error for rung in ladder) for ladder in ladders)
    used, left = total(ladders, reach_error(ladders, error))
    assert left <= max(error, best) + 1e-9
    lower, _ = total(ladders, reach_error(ladders, error / 2))
    assert used <= lower


@given(st.lists(st.lists(RUNGS, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 4000))
def test_no_other_choice_of_as_many_bytes_has_less_error(ladders, nbytes):
    """At the bytes that the steps end with: what a Lagrange multiplier finds is the best there is for its bytes."""
    if nbytes < total(ladders, cheapest(ladders))[0]:
        return
    error = total(ladders, spend_bytes(ladders, nbytes))[1]
    used, reached = total(ladders, reach_error(ladders, error))
    for rungs in product(*(range(len(ladder)) for ladder in ladders)):
        other = total(ladders, rungs)
        assert other[0] > used or other[1] >= reached - 1e-9


def test_the_step_that_gains_most_a_byte_comes_first():
    sensitive, dull = [Rung(4, 8.0), Rung(5, 2.0), Rung(8, 0.1)], [Rung(4, 0.8), Rung(5, 0.2), Rung(8, 0.01)]
    assert spend_bytes([dull, sensitive], 9) == [0, 1]
    assert spend_bytes([dull, sensitive], 10) == [1, 1]
    assert spend_bytes([dull, sensitive], 12) == [0, 2]
    assert spend_bytes([dull, sensitive], 13) == [1, 2]
    assert reach_error([dull, sensitive], 1.0) == [0, 2]
    assert reach_error([dull, sensitive], 0.5) == [1, 2]
