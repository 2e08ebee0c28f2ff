"""Requests that allow guesses: in the scheduler and at the endpoint, over an engine that is a script."""

import re
from pathlib import Path

import pytest
from edge_client import chat, chunks_of, error_of
from fake_engine import FakeEngine
from guesses import Free
from scheduling import PARAMS, PROMPT, text_of, wait_for

from moedge.devices.errors import MoedgeError
from moedge.edge_server.service import Service
from moedge.runtime import kernels
from moedge.runtime.commands import PromptLookupOption
from moedge.runtime.sampling import MOST_GUESSES, SamplingParams

GUESSING = SamplingParams(prompt_lookup_num_tokens=4)
SONG = ["ra", "la", "lu", "ra", "la", "lu", "ra", "la", "lu", "ra", "la", "di", "ra", "la"]


def singer(**settings):
    engine = FakeEngine(lambda prompt: SONG, **settings)
    engine.step_cost = Free()
    return engine


def test_guessed_tokens_come_in_order_and_are_counted(start):
    engine = singer()
    scheduler = start(engine)
    ticket = scheduler.submit(PROMPT, GUESSING)
    assert text_of(ticket) == "".join(SONG)
    assert ticket.timings.generated_tokens == len(SONG) + 1
    assert (ticket.guessed, ticket.guessed_right) == (12, 5)
    assert len(engine.log) == len(SONG) + 1 - ticket.guessed_right
    wait_for(lambda: scheduler.idle)
    (session,) = engine.sessions
    assert session.tokens == [*PROMPT, *map(engine.tokenizer.word, SONG)]
    assert session.pending in engine.eos_token_ids


def test_sessions_with_and_without_guesses_take_turns(start):
    scheduler = start(singer())
    tickets = [scheduler.submit([n], GUESSING if n % 2 else PARAMS) for n in range(1, 5)]
    assert [text_of(ticket) for ticket in tickets] == ["".join(SONG)] * 4
    assert [ticket.guessed > 0 for ticket in tickets] == [True, False, True, False]


def test_max_tokens_ends_it_among_guesses(start):
    engine = singer()
    scheduler = start(engine)
    for most in range(1, 15):
        assert text_of(scheduler.submit(PROMPT, SamplingParams(max_tokens=most, prompt_lookup_num_tokens=4))) == (
            "".join(SONG[:most])
        )


def test_a_request_cancelled_during_a_run_of_guesses_leaves_its_session_whole(start):
    engine = singer()
    scheduler = start(engine)
    ticket = scheduler.submit(PROMPT, GUESSING)
    events = ticket.events(5.0)
    next(events)
    engine.step_seconds = 20.0
    ticket.cancel()
    wait_for(lambda: scheduler.idle)
    engine.step_seconds = 0.0
    (session,) = engine.sessions
    said = list(map(engine.tokenizer.word, SONG))[: len(session.tokens) - len(PROMPT)]
    assert session.tokens == [*PROMPT, *said]
    again = scheduler.submit([*PROMPT, *said], GUESSING)
    assert text_of(again) == "".join(SONG[len(said) :])


@pytest.mark.parametrize("stream", [False, True])
def test_usage_says_what_was_guessed(serve, stream):
    client = serve(singer())
    fields = {"stream_options": {"include_usage": True}} if stream else {}
    answer = chat(client, prompt_lookup_num_tokens=4, stream=stream, **fields)
    usage = chunks_of(answer)[-1]["usage"] if stream else answer.json["usage"]
    told = {"reasoning_tokens": 0, "accepted_prediction_tokens": 5, "rejected_prediction_tokens": 7}
    assert usage["completion_tokens_details"] == told
    assert usage["completion_tokens"] == len(SONG) + 1


def test_a_server_guesses_for_all_requests_that_say_nothing(serve):
    engine = singer()
    client = serve(engine, prompt_lookup_num_tokens=3)
    for path, body in (("completions", {"prompt": "a"}), ("chat/completions", {"messages": [{"role": "user"}]})):
        body = body if path == "completions" else {"messages": [{"role": "user", "content": "hi"}]}
        client.post(f"/v1/{path}", json=body)
        client.post(f"/v1/{path}", json=body | {"prompt_lookup_num_tokens": 0})
    assert [params.prompt_lookup_num_tokens for params in engine.params] == [3, 0, 3, 0]


@pytest.mark.parametrize("value", [-1, MOST_GUESSES + 1, 1.5, "4", True])
def test_how_many_may_be_guessed_is_bounded(serve, value):
    error = error_of(chat(serve(), prompt_lookup_num_tokens=value), 400)
    assert error["param"] == "prompt_lookup_num_tokens"


def test_too_many_guesses_are_refused_before_anything_is_served():
    with pytest.raises(MoedgeError, match=f"prompt_lookup_num_tokens is {MOST_GUESSES + 1}, it must be 0 to"):
        Service().open(FakeEngine(), prompt_lookup_num_tokens=MOST_GUESSES + 1)
    with pytest.raises(MoedgeError, match="prompt_lookup_num_tokens is -1"):
        SamplingParams(prompt_lookup_num_tokens=-1)


def test_no_step_of_guesses_is_tiled():
    header = Path(kernels.__file__).with_name("attend.h").read_text(encoding="utf-8")
    (tiled,) = re.findall(r"TILED_TOKENS = (\d+);", header)
    assert int(tiled) - 1 == 1 + MOST_GUESSES


def test_the_command_takes_as_many_as_a_request():
    (option,) = PromptLookupOption.__metadata__
    assert (option.min, option.max) == (0, MOST_GUESSES)
