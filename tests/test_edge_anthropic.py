"""POST /v1/messages: messages whole and streamed, why they end, what they count, and how they fail."""

import json
import re
from contextlib import ExitStack

import pytest
from anthropic_client import MESSAGES, TOOL, alike, ask, events_in, message_of, refusal, said, streamed
from edge_client import CALL, pieces
from fake_engine import FakeEngine, MidwayError
from live_server import Connection, Running

from moedge.edge_server import replies
from moedge.edge_server.anthropic.anthropic_errors import anthropic_status, error_body
from moedge.edge_server.app import create_app
from moedge.edge_server.errors import api_error
from moedge.edge_server.guard import Guard
from moedge.edge_server.keys import Keys
from moedge.edge_server.service import Service

TOOLS = {"tools": [TOOL]}
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture
def calling(serve):
    return serve(FakeEngine(lambda prompt: pieces(CALL)))


@pytest.mark.parametrize("fields", [{}, {"system": "be brief"}, {"seed": 1, "top_k": 3}, {"max_tokens": 1}])
def test_a_stream_adds_up_to_the_message(serve, fields):
    assert alike(message_of(streamed(serve(), **fields))) == alike(said(serve(), **fields))


def test_a_message_has_everything_that_clients_read(serve):
    message = said(serve())
    assert re.fullmatch(r"msg_\w{24,}", message["id"])
    assert {name: message[name] for name in ("type", "role", "model", "stop_reason", "stop_sequence")} == {
        "type": "message",
        "role": "assistant",
        "model": "acme/fake-moe",
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert message["content"] == [{"type": "text", "text": "Hello!"}]
    assert message["usage"]["input_tokens"] == len("<|user|>hi<|assistant|>")
    assert message["usage"]["output_tokens"] == 4
    assert message["timings"]["generated_tokens"] == 4


def test_thinking_and_a_call_are_blocks(calling):
    message = said(calling, **TOOLS)
    thinking, text, call = message["content"]
    assert thinking["type"] == "thinking" and thinking["thinking"] == "lamp" and thinking["signature"]
    assert text == {"type": "text", "text": "Sure."}
    assert call == {"type": "tool_use", "id": call["id"], "name": "set_light", "input": {"room": "kitchen"}}
    assert re.fullmatch(r"toolu_[A-Za-z0-9_-]+", call["id"])
    assert message["stop_reason"] == "tool_use"
    again = message_of(streamed(calling, **TOOLS))
    assert again["usage"].pop("cache_read_input_tokens") > 0  # of the first request
    kept = {"usage", "content", "stop_reason"}
    assert alike({name: again[name] for name in kept})["content"] == alike(message)["content"]
    assert again["stop_reason"] == "tool_use"
    assert again["content"][2]["id"] != call["id"]


def test_calls_and_their_results_come_back_as_the_model_wrote_them(serve):
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return pieces(CALL)

    client = serve(FakeEngine(answer))
    content = said(client, **TOOLS)["content"]
    results = [{"type": "tool_result", "tool_use_id": content[2]["id"], "content": "ok"}]
    turns = [*MESSAGES, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    said(client, messages=turns, **TOOLS)
    assert prompts[-1].endswith('<|assistant|>Sure.[functions.set_light:0]{"room": "kitchen"}<|tool|>ok<|assistant|>')


@pytest.mark.parametrize(
    ("fields", "reason", "stop", "text"),
    [
        ({}, "end_turn", None, "Hello!"),
        ({"max_tokens": 2}, "max_tokens", None, "Hello"),
        ({"stop_sequences": ["lo"]}, "stop_sequence", "lo", "Hel"),
        ({"stop_sequences": ["x", "H"]}, "stop_sequence", "H", None),
        ({"max_tokens": 4096}, "end_turn", None, "Hello!"),
    ],
)
def test_why_an_answer_ends(serve, fields, reason, stop, text):
    for message in (said(serve(), **fields), message_of(streamed(serve(), **fields))):
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)
        assert [block["text"] for block in message["content"]] == [text] * (text is not None)


def test_the_end_of_the_context_is_told_from_the_limit_of_the_request(serve):
    engine = FakeEngine(lambda prompt: ["a"] * 99, context_length=40)
    message = said(serve(engine), max_tokens=1000)
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert message["usage"]["output_tokens"] == 41 - message["usage"]["input_tokens"]


def test_no_tokens_read_the_prompt_alone(serve):
    client = serve()
    first, then = said(client, max_tokens=0), said(client, max_tokens=4)
    assert (first["content"], first["stop_reason"], first["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert then["usage"]["cache_read_input_tokens"] > 0
    assert message_of(streamed(client, max_tokens=0))["content"] == []


def test_what_is_cached_is_counted_apart(serve):
    client = serve()
    counted = ask(client, "/v1/messages/count_tokens", max_tokens=...).json["input_tokens"]
    first, second = said(client)["usage"], said(client)["usage"]
    assert first["cache_read_input_tokens"] == 0 < second["cache_read_input_tokens"]
    assert first["input_tokens"] == second["input_tokens"] + second["cache_read_input_tokens"] == counted
    assert message_of(streamed(client))["usage"]["cache_read_input_tokens"] == second["cache_read_input_tokens"]


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}]},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"messages": [*MESSAGES, {"role": "assistant", "content": "The answer is ("}]},
    ],
)
def test_tokens_are_counted_as_they_are_used(serve, fields):
    counted = ask(serve(), "/v1/messages/count_tokens", max_tokens=..., **fields)
    assert list(counted.json) == ["input_tokens"]
    assert counted.json["input_tokens"] == said(serve(), **fields)["usage"]["input_tokens"]


@pytest.mark.parametrize("name", ["max_tokens", "stream", "temperature", "stop_sequences", "metadata_"])
def test_what_counts_nothing_is_refused_where_tokens_are_counted(serve, name):
    error = refusal(ask(serve(), "/v1/messages/count_tokens", **{"max_tokens": ..., name: 1}), 400)
    assert name in error["message"]


def test_failures_have_anthropics_shape(serve):
    client = serve()
    for response, status, kind in (
        (client.get("/v1/messages"), 405, "invalid_request_error"),
        (client.post("/v1/messages/batches", json={}), 404, "not_found_error"),
        (client.post("/v1/messages", data="x", content_type="text/plain"), 415, "invalid_request_error"),
        (client.post("/v1/messages", data=b"{", content_type="application/json"), 400, "invalid_request_error"),
        (client.post("/v1/messages", data=b"x" * (5 << 20), content_type="application/json"), 413, "request_too_large"),
        (ask(client, model="claude-opus"), 404, "not_found_error"),
        (ask(client, headers={"Host": "evil.example"}), 403, "permission_error"),
        (ask(client, messages=[{"role": "user", "content": "x" * 5000}]), 400, "invalid_request_error"),
    ):
        assert refusal(response, status)["type"] == kind
    assert client.get("/v1/messages").headers["Allow"]
    assert set(client.post("/v1/chat/completions", json={}).json) == {"error"}


def test_a_prompt_that_is_too_long_is_told_in_words_that_agents_know(serve):
    error = refusal(ask(serve(), messages=[{"role": "user", "content": "x" * 5000}]), 400)
    assert error["message"].startswith("prompt is too long: ")
    assert "4096" in error["message"] and "5021" in error["message"]


def test_a_key_is_asked_for_in_the_same_shape(serve):
    client = serve(guard=Guard(Keys.of(["secret-key-1"])))
    assert refusal(ask(client), 401)["type"] == "authentication_error"
    assert refusal(client.get("/v1/models", headers=VERSION), 401)["type"] == "authentication_error"
    assert ask(client, headers={"x-api-key": "secret-key-1", **VERSION}).status_code == 200


def test_a_full_queue_says_when_to_come_back(serve):
    engine = FakeEngine()
    engine.gate.clear()
    client = serve(engine, max_running=1, max_queued=0)
    body = {"messages": MESSAGES, "max_tokens": 9, "stream": True}
    stream = client.post("/v1/messages", json=body, buffered=False)
    response = ask(client)
    assert refusal(response, 429)["type"] == "rate_limit_error"
    assert int(response.headers["Retry-After"]) > 0
    engine.gate.set()
    assert events_in(stream.text)[-1]["type"] == "message_stop"


def test_what_may_be_better_soon_is_told_so():
    client = create_app(Service(), Guard()).test_client()
    loading = ask(client)
    assert refusal(loading, 503)["type"] == "api_error"
    assert int(loading.headers["Retry-After"]) > 0
    full = error_body(api_error(MemoryError()))
    assert (full["error"]["type"], anthropic_status(api_error(MemoryError()))) == ("overloaded_error", 529)
    assert error_body(api_error(ValueError("secret")))["error"]["type"] == "api_error"


def test_a_failure_in_mid_stream_is_an_event_and_nothing_follows(serve):
    client = serve(FakeEngine(lambda prompt: ["a", "b", MidwayError("it broke")]))
    response = ask(client, stream=True)
    *events, error = events_in(response.text)
    assert [event["type"] for event in events][-1] == "content_block_delta"
    assert error == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "It broke"},
        "request_id": response.headers["request-id"],
    }
    assert refusal(ask(client), 400)["message"] == "It broke"


def test_a_long_silence_is_pings(serve, monkeypatch):
    monkeypatch.setattr(replies, "KEEP_ALIVE_SECONDS", 0.0)
    monkeypatch.setattr(replies, "POLL_SECONDS", 0.01)
    events = streamed(serve(FakeEngine(step_seconds=0.05)))
    assert [event["type"] for event in events].count("ping") > 2
    assert [event["type"] for event in events if event["type"] != "ping"][-1] == "message_stop"


def test_what_waitress_refuses_has_the_shape_too():
    running = Running(FakeEngine(), 1, 1, 1.0)
    try:
        with ExitStack() as opened:
            connection = Connection(running.port, opened)
            connection.putrequest("POST", "/v1/messages")
            connection.putheader("Content-Length", str(5 << 20))
            connection.endheaders()
            response = connection.getresponse()
            assert response.status == 413
            assert json.loads(response.read())["error"]["type"] == "request_too_large"
    finally:
        running.stop()


def test_models_are_listed_as_the_client_expects_them(serve):
    client = serve()
    assert client.get("/v1/models").json["object"] == "list"
    listed = client.get("/v1/models?limit=5&beta=true", headers=VERSION).json
    (model,) = listed["data"]
    assert listed == {"data": [model], "has_more": False, "first_id": "acme/fake-moe", "last_id": "acme/fake-moe"}
    assert (model["type"], model["id"], model["max_input_tokens"]) == ("model", "acme/fake-moe", 4096)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", model["created_at"])
    assert client.get("/v1/models/acme/fake-moe", headers=VERSION).json == model
    assert client.get("/v1/models?after_id=acme/fake-moe", headers=VERSION).json["data"] == []
    assert refusal(client.get("/v1/models/x", headers=VERSION), 404)["type"] == "not_found_error"
    for query in (
        "limit=0",
        "limit=x",
        "after_id=nobody",
        "colour=red",
        "after_id=acme/fake-moe&before_id=acme/fake-moe",
    ):
        refusal(client.get(f"/v1/models?{query}", headers=VERSION), 400)
