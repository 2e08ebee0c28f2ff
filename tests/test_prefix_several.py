"""Several answers to a prompt, and prompts that begin alike at the same time: what they share is read once."""

import pytest
from fake_engine import FakeEngine, MidwayError
from prefixes import CHATS, ONE, SYSTEM, ask, echo, read, right
from scheduling import failure_of, text_of, wait_for

from moedge.devices.errors import MoedgeError
from moedge.runtime import timelines
from moedge.runtime.admission import QueueFull
from moedge.runtime.sampling import SamplingParams


@pytest.fixture
def engine():
    return FakeEngine(echo, chunk=64, slots=4)


def test_owners_that_run_at_once_share_nothing(engine, start):
    engine.gate.clear()
    scheduler = start(engine, max_running=2)
    tickets = [scheduler.submit(CHATS[0], SamplingParams(max_tokens=9), owner) for owner in ("one", "two")]
    engine.gate.set()
    assert [text_of(ticket) for ticket in tickets] == [right(CHATS[0], 9)] * 2
    assert [ticket.cached_tokens for ticket in tickets] == [0, 0]
    assert read(engine) == 2 * (len(CHATS[0]) + 8)
    turns = [next(iter(run)) for run in engine.runs[:8]]
    assert len(set(turns)) == 2  # nor did one wait for the other


def test_several_answers_read_their_prompt_once(engine, start):
    scheduler = start(engine, max_running=4)
    params = [SamplingParams(max_tokens=n) for n in (1, 5, 3, 4)]
    tickets = scheduler.submit_all(CHATS[0], params)
    assert [text_of(ticket) for ticket in tickets] == [right(CHATS[0], n) for n in (1, 5, 3, 4)]
    assert sorted(ticket.cached_tokens for ticket in tickets) == [0] + [len(CHATS[0])] * 3
    assert read(engine) == len(CHATS[0]) + sum(n - 1 for n in (1, 5, 3, 4))


def test_answers_without_a_place_wait_and_still_read_nothing(engine, start):
    scheduler = start(engine, max_running=1, max_queued=3)
    tickets = scheduler.submit_all(CHATS[0], [SamplingParams(max_tokens=2)] * 4)
    assert [text_of(ticket) for ticket in tickets] == [right(CHATS[0], 2)] * 4
    assert read(engine) == len(CHATS[0]) + 4


def test_several_answers_are_taken_all_or_none(engine, start):
    engine.gate.clear()
    scheduler = start(engine, max_running=1, max_queued=3)
    scheduler.submit([1], ONE)
    scheduler.submit([2], ONE)
    with pytest.raises(QueueFull):
        scheduler.submit_all(CHATS[0], [ONE] * 3)
    with pytest.raises(MoedgeError, match="5 answers take as many places, and this server has 4: ask for fewer"):
        scheduler.submit_all(CHATS[0], [ONE] * 5)
    assert len(scheduler.submit_all(CHATS[0], [ONE] * 2)) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_several_that_is_cancelled_leaves_the_others(engine, start, which):
    engine.step_seconds = 0.005
    scheduler = start(engine, max_running=3)
    tickets = scheduler.submit_all(CHATS[0], [SamplingParams(max_tokens=3)] * 3)
    wait_for(lambda: len(engine.runs) > 1)  # the prompt is being read
    tickets[which].cancel()
    others = [ticket for number, ticket in enumerate(tickets) if number != which]
    assert [text_of(ticket) for ticket in others] == [right(CHATS[0], 3)] * 2
    assert read(engine) < len(CHATS[0]) + 64 + 3 * 3  # a chunk more at most


def test_one_of_several_that_fails_leaves_the_others(start, monkeypatch):
    engine = FakeEngine(echo, chunk=64, slots=4, step_seconds=0.002)
    say, failed = engine.program._say, []

    def fail_once(lane, token_ids, past, rows):
        if past > 100 and not failed:
            failed.append(past)
            raise MidwayError("boom")
        say(lane, token_ids, past, rows)

    monkeypatch.setattr(engine.program, "_say", fail_once)
    scheduler = start(engine, max_running=3)
    tickets = scheduler.submit_all(CHATS[0], [ONE] * 3)
    assert str(failure_of(tickets[0])) == "boom"
    assert [text_of(ticket) for ticket in tickets[1:]] == [right(CHATS[0])] * 2


def test_prompts_that_begin_alike_at_the_same_time_are_read_once_as_far(engine, start):
    engine.gate.clear()
    scheduler = start(engine, max_running=3)
    tickets = [scheduler.submit(chat, ONE) for chat in (CHATS[0], CHATS[1], list(range(5000, 5040)))]
    engine.gate.set()
    answers = [right(chat) for chat in (CHATS[0], CHATS[1], list(range(5000, 5040)))]
    assert [text_of(ticket) for ticket in tickets] == answers
    assert tickets[1].cached_tokens == len(SYSTEM)
    assert read(engine) == len(SYSTEM) + 2 * 80 + 40


def test_a_running_answer_lends_its_beginning(engine, start):
    scheduler = start(engine, max_running=2)
    talks = scheduler.submit(CHATS[0], SamplingParams(max_tokens=300))
    wait_for(lambda: talks.phase == "decode")
    other = scheduler.submit(CHATS[1], ONE)
    same = scheduler.submit(CHATS[0], SamplingParams(max_tokens=2))
    assert text_of(other) == right(CHATS[1])
    assert text_of(same) == right(CHATS[0], 2)
    assert (other.cached_tokens, same.cached_tokens) == (len(SYSTEM), len(CHATS[0]))
    assert text_of(talks) == right(CHATS[0], 300)


def test_what_is_long_is_copied_a_part_at_a_time(engine, start, monkeypatch):
    monkeypatch.setattr(timelines, "AT_ONCE_BYTES", 0)
    scheduler = start(engine, max_running=3)
    ask(scheduler, CHATS[0])
    assert ask(scheduler, CHATS[1]) == len(SYSTEM)  # of which the session has more than whole blocks
    ask(scheduler, [*CHATS[0][:320], 5, 6, 7])
    assert scheduler.prefix_counts.memory_tokens == 320
    assert ask(scheduler, [*CHATS[0], 9]) == len(CHATS[0])  # its session is as it was
