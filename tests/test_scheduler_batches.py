"""The scheduler where sessions run together: who steps with whom, and that nobody pays for another."""

import threading
import time
from itertools import pairwise

import pytest
from fake_engine import FakeEngine, MidwayError
from scheduling import PARAMS, failure_of, text_of, wait_for

from moedge.runtime.admission import NotAccepting
from moedge.runtime.generation import Generation
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.ticket import Failed

MANY = 400


def talking(**settings):
    """It never ends by itself, and no step ends before its gate is opened."""
    engine = FakeEngine(lambda prompt: ["x"] * MANY, slots=8, **settings)
    engine.gate.clear()
    return engine


def test_all_that_decode_take_a_step_together(start):
    engine = FakeEngine(lambda prompt: list("abcdef"), slots=3)
    engine.gate.clear()
    scheduler = start(engine, max_running=3)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2, 3)]
    wait_for(lambda: engine.runs)
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets] == ["abcdef"] * 3
    together = [run for run in engine.runs if len(run) == 3]
    assert len(together) >= 3
    assert len(engine.runs) <= 7 + 3  # each has seven steps; alone they would be 21
    assert all(set(run.values()) == {1} for run in engine.runs)


def test_a_prompt_goes_with_the_answers_a_chunk_a_step(start):
    engine = talking(chunk=10)
    scheduler = start(engine, max_running=3)
    for n in (1, 2):
        scheduler.submit([n], PARAMS)
    engine.gate.set()
    wait_for(lambda: sum(len(run) == 2 for run in engine.runs) > 3)
    long = scheduler.submit(list(range(3, 103)), SamplingParams(max_tokens=1))
    assert text_of(long) == "x"
    with_prompt = [run for run in engine.runs if 10 in run.values()]
    assert len(with_prompt) == 10
    assert all(sorted(run.values()) == [1, 1, 10] for run in with_prompt)


def test_of_two_prompts_one_is_run_a_step_in_turn(start):
    engine = talking(chunk=5)
    scheduler = start(engine, max_running=3)
    scheduler.submit([1], PARAMS)
    engine.gate.set()
    wait_for(lambda: len(engine.runs) > 3)
    engine.gate.clear()
    prompts = [scheduler.submit(list(range(n, n + 50)), SamplingParams(max_tokens=1)) for n in (100, 200)]
    engine.gate.set()
    assert [text_of(ticket) for ticket in prompts] == ["x", "x"]
    with_prompt = [run for run in engine.runs if 5 in run.values()]
    assert len(with_prompt) == 20
    assert all(sorted(run.values()) == [1, 5] for run in with_prompt)
    whose = [next(lane for lane, count in run.items() if count == 5) for run in with_prompt]
    assert sum(one != other for one, other in pairwise(whose)) >= 17  # but where only one of them is left


def test_a_cancelled_one_leaves_and_the_others_go_on(start):
    engine = talking()
    scheduler = start(engine, max_running=3)
    tickets = [scheduler.submit([n], SamplingParams(max_tokens=30)) for n in (1, 2, 3)]
    engine.gate.set()
    wait_for(lambda: any(len(run) == 3 for run in engine.runs))
    engine.gate.clear()
    at = len(engine.runs)
    tickets[1].cancel()
    engine.gate.set()
    assert [text_of(tickets[i]) for i in (0, 2)] == ["x" * 30] * 2
    assert all(len(run) <= 2 for run in engine.runs[at + 1 :])
    wait_for(lambda: scheduler.idle)
    again = scheduler.submit([2], SamplingParams(max_tokens=2))  # its session was not interrupted
    assert text_of(again) == "xx"


def test_a_failure_in_a_shared_run_ends_only_its_own(start):
    def answer(prompt):
        return ["a", "a", MidwayError("boom")] if prompt.startswith("\x01") else ["a"] * 9

    engine = FakeEngine(answer, slots=3)
    engine.gate.clear()
    scheduler = start(engine, max_running=3)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2, 3)]
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets[1:]] == ["a" * 9] * 2
    *tokens, last = tickets[0].events(5.0)
    assert [token.text for token in tokens] == ["a", "a"]
    assert str(last.error) == "boom"
    assert any(len(run) == 3 for run in engine.runs)
    assert scheduler.healthy
    wait_for(lambda: scheduler.idle)
    assert text_of(scheduler.submit([2, 5], PARAMS)) == "a" * 9


def test_a_refused_prompt_costs_nobody_a_step(start):
    engine = talking(context_length=50)
    scheduler = start(engine, max_running=2)
    good = scheduler.submit([1], SamplingParams(max_tokens=20))
    engine.gate.set()
    wait_for(lambda: len(engine.runs) > 2)
    bad = scheduler.submit(list(range(60)), PARAMS)
    assert "60 tokens" in str(failure_of(bad))
    assert text_of(good) == "x" * 20


def test_close_ends_a_shared_run_at_once(start, monkeypatch):
    engine, shared = talking(), threading.Event()
    wait = engine.program._wait

    def hang(way, ran):
        if len(ran) == 2:
            engine.step_seconds = 20.0
            shared.set()
        wait(way, ran)

    monkeypatch.setattr(engine.program, "_wait", hang)
    scheduler = start(engine, max_running=2)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2)]
    engine.gate.set()
    assert shared.wait(5)
    began = time.monotonic()
    scheduler.close()
    assert time.monotonic() - began < 5.0
    assert not scheduler._thread.is_alive()
    assert [type(failure_of(ticket)) for ticket in tickets] == [NotAccepting] * 2


def test_sessions_of_two_arenas_take_turns(start):
    engine = FakeEngine(lambda prompt: list("abcdef"), slots=2)
    engine.gate.clear()
    scheduler = start(engine, max_running=4)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2, 3, 4)]
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets] == ["abcdef"] * 4
    assert max(len(run) for run in engine.runs) == 2
    company = {frozenset(run) for run in engine.runs if len(run) == 2}
    assert len(company) == 2


def test_one_place_or_a_program_that_cannot_runs_each_alone(start):
    for engine, places in ((FakeEngine(slots=0), 3), (FakeEngine(slots=4), 1)):
        scheduler = start(engine, max_running=places)
        tickets = [scheduler.submit([n], PARAMS) for n in (1, 2, 3)]
        assert [text_of(ticket) for ticket in tickets] == ["Hello!"] * 3
        assert all(len(run) == 1 for run in engine.runs)


@pytest.mark.parametrize("slots", [0, 4])
def test_logits_that_are_no_numbers_end_one_answer(start, slots, monkeypatch):
    engine = FakeEngine(lambda prompt: ["a"] * 6, slots=slots)
    say = engine.program._say

    def broken(lane, token_ids, past, rows):
        say(lane, token_ids, past, rows)
        if lane.tokens[0] == 1 and len(lane.tokens) > 3:
            rows[:] = float("nan")

    monkeypatch.setattr(engine.program, "_say", broken)
    engine.gate.clear()
    scheduler = start(engine, max_running=2)
    bad, good = (scheduler.submit([n], PARAMS) for n in (1, 2))
    engine.gate.set()
    assert text_of(good) == "aaaaaa"
    *tokens, last = bad.events(5.0)
    assert isinstance(last, Failed)
    assert len(tokens) == 3


def test_who_comes_after_a_failure_still_steps_with_the_others(start):
    """Though the failure, whose traceback holds the broken session, is kept."""
    engine = FakeEngine(lambda prompt: [ValueError("boom")] if prompt == "\x01" else ["a"] * 9, slots=2)
    scheduler = start(engine, max_running=2)
    failed = [failure_of(scheduler.submit([1], PARAMS)) for _ in range(3)]
    engine.gate.clear()
    tickets = [scheduler.submit([n], PARAMS) for n in (2, 3)]
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets] == ["a" * 9] * 2
    assert any(len(run) == 2 for run in engine.runs)
    assert len(failed) == 3


def test_a_step_that_nobody_waits_for_any_more_is_stopped(start, monkeypatch):
    engine, shared = talking(), threading.Event()
    wait = engine.program._wait

    def hang(way, ran):
        if len(ran) == 2 and not shared.is_set():
            engine.step_seconds = 20.0
            shared.set()
        wait(way, ran)

    monkeypatch.setattr(engine.program, "_wait", hang)
    scheduler = start(engine, max_running=2)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2)]
    engine.gate.set()
    assert shared.wait(5)
    tickets[0].cancel()
    assert not scheduler.idle  # the other one goes on
    tickets[1].cancel()
    wait_for(lambda: scheduler.idle)
    engine.step_seconds = 0.0
    again = [scheduler.submit([n], SamplingParams(max_tokens=4)) for n in (1, 2)]
    assert [text_of(ticket) for ticket in again] == ["xxxx"] * 2


def test_an_interruption_that_comes_too_late_stops_nobody_else(start, monkeypatch):
    """All leave once a shared step has run, before it is told."""
    engine, tickets, gone = talking(), [], threading.Event()
    scheduler = start(engine, max_running=2)
    run_segments = engine.program.run_segments

    def leave_after(*arguments):
        run_segments(*arguments)
        if not gone.is_set():
            gone.set()
            for ticket in tickets:
                ticket.cancel()

    monkeypatch.setattr(engine.program, "run_segments", leave_after)
    tickets += [scheduler.submit([n], PARAMS) for n in (1, 2)]
    engine.gate.set()
    assert gone.wait(5)
    again = [scheduler.submit([n], SamplingParams(max_tokens=30)) for n in (3, 4)]
    assert [text_of(ticket) for ticket in again] == ["x" * 30] * 2
    assert any(len(run) == 2 for run in engine.runs[-10:])


def test_whatever_breaks_between_two_runs_the_engine_stays(start, monkeypatch):
    engine = talking()
    scheduler = start(engine, max_running=2)
    tickets = [scheduler.submit([n], PARAMS) for n in (1, 2)]
    engine.gate.set()
    wait_for(lambda: any(len(run) == 2 for run in engine.runs))
    with monkeypatch.context() as patch:
        patch.setattr(Generation, "feed", lambda *arguments: 1 / 0)
        assert {type(failure_of(ticket)) for ticket in tickets} == {ZeroDivisionError}
    assert text_of(scheduler.submit([3], SamplingParams(max_tokens=3))) == "xxx"
    assert scheduler.healthy
