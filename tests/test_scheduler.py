"""The scheduler: turns, bounds, cancelling, failures, prefix reuse, over an engine that is a script."""

import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine, MidwayError
from scheduling import PARAMS, PROMPT, SlowToBegin, failure_of, text_of, wait_for

from moedge.runtime.admission import QueueFull
from moedge.runtime.sampling import SamplingParams


def test_tokens_arrive_and_timings_count_them(start):
    scheduler = start(FakeEngine(step_seconds=0.002))
    ticket = scheduler.submit(PROMPT, PARAMS)
    assert text_of(ticket) == "Hello!"
    timings = ticket.timings
    assert (timings.prompt_tokens, timings.generated_tokens, timings.cached_tokens) == (6, 4, 0)  # the end too
    assert timings.prompt_ms >= 2
    assert timings.generated_ms >= 4
    wait_for(lambda: scheduler.idle)


def test_parameters_reach_the_session(start):
    engine = FakeEngine()
    params = SamplingParams(temperature=0.25, max_tokens=2)
    assert text_of(start(engine).submit(PROMPT, params)) == "Hello"
    assert engine.params == [params]


def test_long_prompt_does_not_freeze_a_running_answer(start):
    engine = FakeEngine(lambda prompt: ["x"] * 20, step_seconds=0.002, chunk=1)
    scheduler = start(engine)
    answer = scheduler.submit([1], PARAMS)
    events = answer.events(5.0)
    next(events)  # it is being answered
    long = scheduler.submit(list(range(2, 1000)), PARAMS)
    assert sum(event is not None for event in events) == 20
    assert not long.finished  # its prefill takes another 900 steps
    long.cancel()


def test_turns_are_one_step_each(start):
    engine = FakeEngine(lambda prompt: list("abcdef"))
    engine.gate.clear()
    scheduler = start(engine)
    one, two = scheduler.submit([1], PARAMS), scheduler.submit([2], PARAMS)
    wait_for(lambda: len(engine.log) == 1)
    engine.gate.set()
    assert text_of(one) == text_of(two) == "abcdef"
    sessions = [session for session, _ in engine.log]
    assert all(a != b for a, b in pairwise(sessions[1:]))


def test_queue_is_bounded_and_says_when_to_come_back(start, monkeypatch):
    engine = FakeEngine()
    engine.gate.clear()
    scheduler = start(engine, max_running=1, max_queued=2)
    tickets = [scheduler.submit([n], PARAMS) for n in range(3)]
    with pytest.raises(QueueFull) as full:
        scheduler.submit([9], PARAMS)
    assert 1 <= full.value.retry_after_s <= 60
    wait_for(lambda: engine.log)
    later = time.monotonic() + 300
    monkeypatch.setattr("moedge.runtime.ticket.time", SimpleNamespace(monotonic=lambda: later))
    with pytest.raises(QueueFull) as full:  # what has run for five minutes will hardly end in one
        scheduler.submit([9], PARAMS)
    assert 300 <= full.value.retry_after_s <= 310
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets] == ["Hello!"] * 3
    wait_for(lambda: scheduler.idle)
    assert text_of(scheduler.submit([9], PARAMS)) == "Hello!"


def test_cancel_while_queued_frees_the_place_at_once(start):
    engine = FakeEngine()
    engine.gate.clear()
    scheduler = start(engine, max_running=1, max_queued=1)
    scheduler.submit([1], PARAMS)
    waiting = scheduler.submit([2], PARAMS)
    wait_for(lambda: engine.log)
    waiting.cancel()
    third = scheduler.submit([3], PARAMS)
    engine.gate.set()
    assert text_of(third) == "Hello!"
    assert len(engine.params) == 2  # the cancelled one never ran


@pytest.mark.parametrize("chunk", [1, 4096], ids=["prefill", "decode"])
def test_cancel_interrupts_the_step_in_progress(start, chunk):
    engine = FakeEngine(lambda prompt: ["x"] * 1000, step_seconds=0.0, chunk=chunk)
    scheduler = start(engine)
    ticket = scheduler.submit(list(range(1, 3000)), PARAMS)
    wait_for(lambda: len(engine.log) > 3)
    engine.step_seconds = 20.0
    time.sleep(0.02)
    began = time.monotonic()
    ticket.cancel()
    wait_for(lambda: scheduler.idle)
    assert time.monotonic() - began < 5.0  # not a whole step
    engine.step_seconds = 0.0
    again = scheduler.submit(list(range(1, 3000)), SamplingParams(max_tokens=1))
    assert text_of(again) == "x"
    assert again.cached_tokens > 0  # what it had computed is kept
    assert len(engine.sessions) == 1


def test_cancel_before_the_first_step_has_begun_does_no_work(start):
    engine = SlowToBegin()
    scheduler = start(engine)
    ticket = scheduler.submit(PROMPT, PARAMS)
    assert engine.begins.wait(5)
    ticket.cancel()  # the interruption comes before the generation, which clears it
    engine.may_begin.set()
    wait_for(lambda: scheduler.idle)
    assert engine.log == []
    assert text_of(scheduler.submit(PROMPT, PARAMS)) == "Hello!"
    assert len(engine.sessions) == 1  # it is kept


def test_failure_ends_only_its_request(start):
    def answer(prompt):
        return ["a", ValueError("boom")] if prompt.startswith("\x01") else ["a"] * 5

    engine = FakeEngine(answer, step_seconds=0.002)
    scheduler = start(engine)
    bad, good = scheduler.submit([1], PARAMS), scheduler.submit([2], PARAMS)
    assert text_of(good) == "aaaaa"
    assert str(failure_of(bad)) == "boom"
    assert scheduler.healthy
    assert text_of(scheduler.submit([3], PARAMS)) == "aaaaa"


def test_failure_before_the_first_token(start):
    engine = FakeEngine(lambda prompt: [MidwayError("no")])
    assert isinstance(failure_of(start(engine).submit(PROMPT, PARAMS)), MidwayError)


def test_session_of_a_failure_is_not_used_again(start):
    engine = FakeEngine(lambda prompt: [MidwayError("no")] if prompt == "\x01" else ["a"])
    scheduler = start(engine, max_running=1)
    failure_of(scheduler.submit([1], PARAMS))
    text_of(scheduler.submit([1, 2], PARAMS))
    assert len(engine.sessions) == 2


def test_session_of_a_refusal_is_used_again(start):
    """Nothing is wrong with it: a chat does not lose its cached prompt to one request that cannot be honoured."""
    engine = FakeEngine(lambda prompt: ["a"])
    scheduler = start(engine, max_running=1)
    text_of(scheduler.submit(PROMPT, PARAMS))
    outside = scheduler.submit([*PROMPT, 10**6], PARAMS)
    assert "outside the vocabulary" in str(failure_of(outside))
    biased = scheduler.submit([*PROMPT, 5], SamplingParams(logit_bias={10**6: 1.0}))
    assert "logit_bias names token" in str(failure_of(biased))
    again = scheduler.submit([*PROMPT, 6], PARAMS)
    text_of(again)
    assert (again.cached_tokens, len(engine.sessions)) == (len(PROMPT), 1)


def test_prompt_continues_the_session_with_its_longest_beginning(start):
    engine = FakeEngine(lambda prompt: ["ok"])
    scheduler = start(engine, max_running=2)
    text_of(scheduler.submit([1, 2, 3], PARAMS))
    text_of(scheduler.submit([7, 8, 9], PARAMS))  # a session of its own, the first one's tokens stay
    longer = scheduler.submit([1, 2, 3, 4], PARAMS)
    text_of(longer)
    other = scheduler.submit([7, 8, 5], PARAMS)
    text_of(other)
    assert (longer.timings.cached_tokens, other.timings.cached_tokens) == (3, 2)
    assert len(engine.sessions) == 2
    strange = scheduler.submit([4], PARAMS)
    text_of(strange)
    assert strange.timings.cached_tokens == 0
    assert len(engine.sessions) == 2


def test_a_second_turn_goes_on_from_its_prompt_alone(start):
    engine = FakeEngine()
    scheduler = start(engine)
    text_of(scheduler.submit(PROMPT, SamplingParams(max_tokens=2)))
    (session,) = engine.sessions
    said = [engine.tokenizer.word(text) for text in ("Hel", "lo")]
    wait_for(lambda: scheduler.idle)
    assert (session.tokens, session.pending) == ([*PROMPT, said[0]], said[1])
    second = [*PROMPT, *map(ord, "now")]
    text_of(scheduler.submit(second, SamplingParams(max_tokens=2)))
    wait_for(lambda: scheduler.idle)
    assert engine.sessions == [session]
    assert (session.tokens, session.pending) == ([*second, said[0]], said[1])


def test_chats_that_begin_alike_keep_their_own_sessions(start):
    engine = FakeEngine(lambda prompt: ["ok"])
    scheduler = start(engine, max_running=2)
    template = [1, 2, 3]
    one, two = [*template, *range(20, 30)], [*template, *range(40, 50)]
    for prompt in (one, two):
        text_of(scheduler.submit(prompt, PARAMS))
    for prompt in (one, two):
        longer = scheduler.submit([*prompt, 9], PARAMS)
        text_of(longer)
        assert longer.timings.cached_tokens == len(prompt)
    assert len(engine.sessions) == 2
    third = scheduler.submit([*template, *range(60, 70)], PARAMS)  # takes the place of the chat that was silent longest
    text_of(third)
    again = scheduler.submit([*two, 9], PARAMS)  # the very same prompt: nothing of it is run
    text_of(again)
    assert (third.timings.cached_tokens, again.timings.cached_tokens) == (len(template), len(two) + 1)
