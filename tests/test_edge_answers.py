"""Where a chat's answer ends, what its calls are called on the wire, and what the log says of it."""

import json
import logging
import re

import pytest
from edge_client import HELLO, TOOLS, chat, chunks_of, pieces
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from moedge.edge_server.call_ids import LONGEST, CallIds, decode_id, encode_id

SECTION, END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"


def call(identifier, arguments="{}"):
    return f"<|tool_call_begin|>{identifier}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def choice_of(response):
    assert response.status_code == 200, response.text
    return response.json["choices"][0]


def joined(response):
    """(content, reasoning, arguments of calls, finish reason) of a stream."""
    chunks = [chunk["choices"][0] for chunk in chunks_of(response)]
    deltas = [chunk["delta"] for chunk in chunks]
    texts = ["".join(delta.get(name) or "" for delta in deltas) for name in ("content", "reasoning_content")]
    calls = [part["function"]["arguments"] for delta in deltas for part in delta.get("tool_calls", ())]
    return *texts, "".join(calls), chunks[-1]["finish_reason"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_stop_string_ends_what_is_visible_alone(serve, size):
    """In thinking and in a call it is part of them; the content ends before it, cut into whatever tokens."""
    text = f"<think>first STOP then</think>go {SECTION}{call('functions.set_light:0', json.dumps({'a': 'STOP'}))}"
    client = serve(FakeEngine(lambda prompt: pieces(f"{text}{END_SECTION}on STOP off", size)))
    for stream in (False, True):
        response = chat(client, tools=TOOLS, stop=["STOP"], stream=stream)
        if stream:
            assert joined(response) == ("go on ", "first STOP then", '{"a": "STOP"}', "tool_calls")
        else:
            message = choice_of(response)["message"]
            assert (message["content"], message["reasoning_content"]) == ("go on ", "first STOP then")


def test_a_stop_string_ends_the_work(serve):
    engine = FakeEngine(lambda prompt: ["a", "STOP", *["x"] * 3000], step_seconds=0.001)
    body = chat(serve(engine), stop="STOP").json
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["content"] == "a"
    assert body["usage"]["completion_tokens"] < 100


def test_what_only_began_a_stop_string_is_shown(serve):
    client = serve(
        FakeEngine(lambda prompt: pieces(f"a ST{SECTION}{call('functions.set_light:0')}{END_SECTION}b ST", 1))
    )
    assert choice_of(chat(client, tools=TOOLS, stop="STOP"))["message"]["content"] == "a STb ST"


TWO_CALLS = f"{SECTION}{call('functions.set_light:0', '[1]')}{call('functions.set_light:1', '[2]')}{END_SECTION}"


@pytest.mark.parametrize("size", [1, 4, 400])
def test_without_parallel_calls_the_answer_ends_after_the_first(serve, size):
    engine = FakeEngine(lambda prompt: pieces(TWO_CALLS, size))
    client = serve(engine)
    several = choice_of(chat(client, tools=TOOLS))
    one = choice_of(chat(client, tools=TOOLS, parallel_tool_calls=False))
    assert [len(choice["message"]["tool_calls"]) for choice in (several, one)] == [2, 1]
    assert one["message"]["tool_calls"] == several["message"]["tool_calls"][:1]
    assert one["finish_reason"] == "tool_calls"
    assert joined(chat(client, tools=TOOLS, parallel_tool_calls=False, stream=True))[2:] == ("[1]", "tool_calls")


def test_the_work_ends_behind_the_one_call_that_may_be_made(serve):
    text = f"{SECTION}{call('functions.set_light:0')}{END_SECTION}"
    client = serve(FakeEngine(lambda prompt: [text, *["word "] * 3000], step_seconds=0.001))
    body = chat(client, tools=TOOLS, parallel_tool_calls=False).json
    assert body["usage"]["completion_tokens"] < 100
    assert body["choices"][0]["message"]["content"] is None
    assert body["choices"][0]["finish_reason"] == "tool_calls"


def test_ids_are_plain_and_unlike_and_come_back_as_the_model_wrote_them(serve):
    twice = f"{SECTION}{call('functions.set_light:0')}{call('functions.set_light:0')}{END_SECTION}"
    engine = FakeEngine(lambda prompt: [prompt] if "<|tool|>" in prompt else [twice])
    client = serve(engine)
    message = choice_of(chat(client, tools=TOOLS))["message"]
    ids = [made["id"] for made in message["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", identifier) for identifier in ids)
    results = [{"role": "tool", "tool_call_id": identifier, "content": "ok"} for identifier in ids]
    shown = choice_of(chat(client, tools=TOOLS, messages=[*HELLO["messages"], message, *results]))
    assert "[functions.set_light:0]" in shown["message"]["content"]


@given(st.text(max_size=40))
def test_every_id_can_be_read_back(written):
    assert decode_id(encode_id(written)) == written or not written
    assert re.fullmatch(r"[A-Za-z0-9_-]*", encode_id(written))


@pytest.mark.parametrize(
    "foreign", ["call_abc", "toolu_01A", "call-xyz-2", "call-", "call--ff", "a.b:c", "call-é", "-2e"]
)
def test_ids_of_others_stay_as_they_are(foreign):
    assert decode_id(foreign) == foreign


def test_an_id_that_is_too_long_is_replaced():
    assert len(CallIds().name("f" * (LONGEST + 1))) < LONGEST


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name.endswith("request_log")]


def test_a_request_is_a_line_that_says_no_text(serve, caplog):
    caplog.set_level(logging.INFO)
    client = serve()
    secret = [{"role": "user", "content": "my secret"}]
    response = client.post(
        "/v1/chat/completions?key=hidden", json={"messages": secret}, headers={"X-Request-Id": "abc-1"}
    )
    assert response.headers["X-Request-Id"] == "abc-1"
    response.close()
    stream = chat(client, stream=True)
    chunks_of(stream)
    stream.close()
    error = client.post("/v1/chat/completions", json={"messages": []})
    error.close()
    client.get("/livez").close()
    client.get("/a%0Ab").close()
    whole, streamed, refused, lost = lines(caplog)
    prompt = len("<|user|>my secret<|assistant|>")
    assert re.fullmatch(rf"POST /v1/chat/completions 200 prompt={prompt} cached=0 generated=4 ms=\d+ id=abc-1", whole)
    assert re.fullmatch(r"POST /v1/chat/completions 200 prompt=\d+ cached=\d+ generated=4 ms=\d+ id=req-\w+", streamed)
    assert re.fullmatch(rf"POST /v1/chat/completions 400 ms=\d+ id={error.headers['X-Request-Id']}", refused)
    assert lost.startswith("GET /a%0Ab 404 ")
    assert not any(word in line for line in lines(caplog) for word in ("secret", "hidden"))


@pytest.mark.parametrize("sent", ["x" * 65, "a b", "a\tb", ""])
def test_an_id_that_would_spoil_the_log_is_replaced(serve, sent):
    assert re.fullmatch(r"req-\w{16}", serve().get("/livez", headers={"X-Request-Id": sent}).headers["X-Request-Id"])
