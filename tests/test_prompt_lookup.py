"""Guesses from the text so far, and whether they pay: by hand, without a model."""

import time
from threading import Thread

import numpy as np
import pytest
from guesses import Free

from moedge.runtime.prompt_lookup import LEAST_GAIN, UNMEASURED, PromptLookup, StepCost


def look_up(token_ids, most=4, cost=None):
    return PromptLookup(token_ids, most, room=300, cost=cost or Free())


@pytest.mark.parametrize(
    ("token_ids", "guess"),
    [
        ([1, 2, 3, 4, 5, 9, 1, 2], [3, 4, 5, 9]),
        ([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], [4, 9, 1, 2]),  # the latest of places that agree as far
        ([5, 1, 2, 3, 9, 7, 1, 2, 4, 9, 5, 1, 2], [3, 9, 7, 1]),  # but rather the one that agrees further
        ([1, 2, 1, 2], [1, 2, 1, 2]),  # what repeats itself goes on
        ([7, 7, 7], [7, 7, 7, 7]),
        ([1, 2, 3, 9, 2], []),  # one token is not enough
        ([1, 2, 3, 4], []),
        ([1, 2], []),
        ([1], []),
        ([], []),
    ],
)
def test_what_followed_the_same_tokens_is_guessed(token_ids, guess):
    assert look_up(token_ids).guess(100) == guess


def test_no_more_are_guessed_than_may_be():
    assert look_up([1, 2, 3, 4, 5, 9, 1, 2], most=2).guess(100) == [3, 4]
    assert look_up([1, 2, 3, 4, 5, 9, 1, 2]).guess(1) == [3]
    assert look_up([1, 2, 3, 4, 5, 9, 1, 2]).guess(0) == []


def test_tokens_of_the_answer_are_looked_up_too():
    lookup = look_up([1])
    for token_id in (8, 9, 4, 8, 9):
        lookup.add(token_id)
    assert lookup.guess(2) == [4, 8]


def test_the_share_of_true_guesses_is_counted_whether_they_were_made_or_not():
    made, not_made = look_up([1, 2, 3, 1, 2]), look_up([1, 2, 3, 1, 2], cost=StepCost())
    assert (made.guess(9), not_made.guess(9)) == ([3, 1, 2, 3], [])
    for lookup in (made, not_made):
        before = lookup.chance
        lookup.add(3)
        assert lookup.chance > before
        lookup.add(7)  # and what would have come after a wrong one counts neither way
        after_wrong = lookup.chance
        assert after_wrong < before + (1 - before) / 2
        lookup.add(2)
        assert lookup.chance == after_wrong
    assert made.chance == not_made.chance


def test_it_forgets_how_it_was():
    lookup = look_up([1, 2, 3])
    for _ in range(200):
        lookup.guess(4)
        lookup.add(3)
    assert lookup.chance > 0.95
    for token_id in range(100, 140):
        lookup._expected = [1]
        lookup.add(token_id)
    assert lookup.chance < 0.2


def step_cost(*costs):
    """One that has seen steps of 1, 2, ... rows; None where it has not."""
    cost = StepCost()
    for rows, steps in enumerate((1.0, *costs), 1):
        for _ in range(30 if steps else 0):
            cost.note(rows, 0.010 * steps)
    return cost


def test_what_was_not_measured_lies_on_straight_lines():
    assert StepCost().of(5).tolist() == [1 + UNMEASURED * rows for rows in range(5)]
    assert step_cost(None, 1.4).of(7) == pytest.approx([1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2])
    assert step_cost(1.3, None, None, 1.6).of(6) == pytest.approx([1.0, 1.3, 1.4, 1.5, 1.6, 1.75])


@pytest.mark.parametrize("share", [0.05, 0.13, 0.4, 0.9])
@pytest.mark.parametrize("chance", [0.0, 0.1, 0.3, 0.6, 0.8, 0.97, 1.0])
def test_as_many_are_made_as_give_most_tokens_for_the_time(share, chance):
    gains = [sum(chance**i for i in range(k + 1)) / (1 + k * share) for k in range(11)]
    best = max(range(11), key=gains.__getitem__)
    assert step_cost(1 + share).guesses_that_pay(chance, 10) == (best if gains[best] > LEAST_GAIN else 0)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("beside", [1, 3, 7])
def test_beside_others_it_is_the_tokens_of_all_that_count(chance, beside):
    """The first rows are dear, as each has experts of its own, later ones read what is read already."""
    cost = step_cost(1.8, None, 2.8, None, None, None, 3.2)
    costs = cost.of(beside + 11)
    said = beside + np.cumsum(chance ** np.arange(11))
    gains = [tokens / costs[beside + k] for k, tokens in enumerate(said)]
    best = int(np.argmax(gains))
    assert cost.guesses_that_pay(chance, 10, beside) == (best if gains[best] > LEAST_GAIN * gains[0] else 0)
    assert cost.guesses_that_pay(0.5, 1) == 0
    assert cost.guesses_that_pay(0.5, 1, 3) == 1


def test_a_mixture_whose_rows_cost_almost_a_step_each_is_left_alone():
    assert step_cost(1.9).guesses_that_pay(0.9, 10) == 0
    assert step_cost(1.1).guesses_that_pay(0.9, 10) >= 5
    assert step_cost(1.1).guesses_that_pay(0.05, 10) == 0


def test_a_second_row_that_is_dear_says_nothing_of_the_tenth():
    costs = [1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2]
    assert step_cost(*costs).guesses_that_pay(0.35, 10) == 0
    assert step_cost(*costs).guesses_that_pay(0.95, 9) == 9


def test_nothing_is_guessed_before_a_step_was_measured():
    cost = StepCost()
    cost.note(4, 0.010)  # says nothing by itself
    assert (cost.guesses_that_pay(1.0, 10), cost.of(4)[3]) == (0, 1 + 3 * UNMEASURED)
    cost.note(1, 0.010)
    assert cost.guesses_that_pay(1.0, 10) == 10


def test_a_machine_that_becomes_slower_is_measured_anew():
    cost = step_cost(1.1)
    for _ in range(30):
        cost.note(1, 0.030)
    for _ in range(30):
        cost.note(2, 0.033)
    assert cost.of(2)[1] == pytest.approx(1.1, abs=0.01)


def test_one_bad_moment_is_tried_again_after_a_while():
    cost = StepCost()
    cost.note(1, 0.010)
    cost.note(2, 0.100)  # somebody else had the cores
    assert cost.guesses_that_pay(0.9, 10) == 0
    steps = 0
    while not cost.guesses_that_pay(0.9, 10):
        cost.note(1, 0.010)
        steps += 1
    assert 20 < steps < 300
    for _ in range(1000):
        cost.note(1, 0.010)
    assert cost.of(2)[1] == pytest.approx(1 + UNMEASURED, abs=1e-3)
    cheap = step_cost(1.05)
    cheap.note(1, 0.010)
    assert cheap.of(2)[1] == pytest.approx(1.05)  # what is cheap stays so


def test_a_guess_takes_no_time_to_speak_of():
    """Far below a step of any model, at a context of 100,000 tokens."""
    lookup = look_up([i % 1000 + i // 50000 for i in range(100_000)], most=32, cost=step_cost(1.1))
    began = time.perf_counter()
    for _ in range(20):
        assert lookup.guess(32)
    assert (time.perf_counter() - began) / 20 < 0.005


def test_costs_are_noted_and_asked_by_several_threads():
    """Every other thread's note of a new number of rows falls into the loop over those that were tried."""
    cost = StepCost()
    cost.note(1, 1.0)

    class Interrupting(dict):
        def items(self):
            for each in super().items():
                other = Thread(target=cost.note, args=(100 + len(others), 1.0))
                others.append(other)
                other.start()
                other.join(0.1)
                yield each

    others = []
    cost._steps = Interrupting(cost._steps)
    cost.note(1, 1.0)
    cost.of(4)
    for other in others:
        other.join(10)
    assert len(cost._steps) == 1 + len(others)
