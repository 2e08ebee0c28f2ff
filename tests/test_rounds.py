"""Exports on the way to a KL: what is planned next by what was measured, and what is said in the end."""

import pytest

from moedge.export.sensitivity.rounds import MOST_ROUNDS, Round, best_round, next_aim, tell_rounds


def run(kl, measure):
    """All rounds until the last one will do."""
    rounds, aim = [], kl
    while aim is not None:
        rounds.append(Round(aim, measure(aim)))
        aim = next_aim(kl, rounds)
    return rounds


@pytest.mark.parametrize("factor", [0.3, 0.8, 1.1, 2.5])
def test_what_is_always_a_multiple_takes_two_rounds(factor):
    rounds = run(0.05, lambda expected: factor * expected)
    assert len(rounds) == 2
    assert 0.85 * 0.05 <= rounds[-1].measured <= 0.05
    assert tell_rounds(0.05, rounds) == []


def test_what_is_near_enough_is_left_as_it_is():
    assert len(run(0.05, lambda expected: 0.9 * expected)) == 1
    assert len(run(0.05, lambda expected: expected)) == 1


def test_what_the_kernels_add_is_found_in_the_third():
    rounds = run(0.05, lambda expected: expected + 0.03)
    assert len(rounds) == MOST_ROUNDS == 3
    assert 0.85 * 0.05 <= rounds[-1].measured <= 0.05


def test_what_cannot_be_reached_is_told():
    rounds = run(0.05, lambda expected: expected + 0.06)
    assert len(rounds) == 3
    assert rounds[-1].expected == 0
    [told] = tell_rounds(0.05, rounds)
    assert told == "--target-kl 0.05 is missed by 0.01: 0.06 was measured, the best of 3 plans"


def test_the_end_is_the_smallest_that_met_it_and_else_the_nearest():
    rounds = [Round(0.05, 0.07), Round(0.02, 0.02), Round(0.03, 0.04), Round(0.04, 0.051)]
    assert best_round(0.05, rounds) == 2
    assert tell_rounds(0.05, rounds) == []
    assert best_round(0.01, rounds) == 1
