"""The endpoint over a fake engine: answers, streams, failures. Requests: test_edge_requests.py."""

import errno
import json
import mmap

import pytest
from edge_client import CALL, HELLO, TOOLS, chat, chunks_of, error_of, events_of, pieces
from fake_engine import FakeEngine, MidwayError

from moedge.edge_server import replies
from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.service import Service
from moedge.runtime.sampling import BrokenLogits


def test_chat_answers_with_usage_and_timings(serve):
    body = chat(serve(), model="acme/fake-moe").json
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello!"},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert (body["object"], body["model"]) == ("chat.completion", "acme/fake-moe")
    prompt = len("<|user|>hi<|assistant|>")
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 4,  # the end is one
        "total_tokens": prompt + 4,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert body["timings"]["generated_tokens"] == 4


def test_chat_reads_thoughts_and_tool_calls(serve):
    body = chat(serve(FakeEngine(lambda prompt: pieces(CALL))), tools=TOOLS).json
    (choice,) = body["choices"]
    function = {"name": "set_light", "arguments": '{"room": "kitchen"}'}
    assert choice["message"] == {
        "role": "assistant",
        "content": "Sure.",
        "reasoning_content": "lamp",
        "tool_calls": [{"id": "call-functions-2eset_light-3a0", "type": "function", "function": function}],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_call_alone_has_null_content_and_a_cut_one_says_length(serve):
    text = CALL[CALL.index("<|tool") :]
    assert chat(serve(FakeEngine(lambda prompt: [text])), tools=TOOLS).json["choices"][0]["message"]["content"] is None
    client = serve(FakeEngine(lambda prompt: pieces(text)))
    # before the call is one, and within its arguments
    for most, arguments in ((30, []), (35, ['{"room": '])):
        cut = chat(client, tools=TOOLS, max_tokens=most).json["choices"][0]
        assert [call["function"]["arguments"] for call in cut["message"].get("tool_calls", ())] == arguments
        assert cut["finish_reason"] == "length"
    last = chunks_of(chat(client, tools=TOOLS, max_tokens=35, stream=True))[-1]
    assert last["choices"][0]["finish_reason"] == "length"


def test_stream_has_role_text_reason_usage_done(serve):
    response = chat(serve(), stream=True, stream_options={"include_usage": True})
    first, *middle, last, usage = chunks_of(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["choices"][0]["delta"]["content"] for c in middle] == ["Hel", "lo", "!"]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert last["timings"]["generated_tokens"] == 4
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert {c["id"] for c in [first, *middle, last, usage]} == {first["id"]}
    assert {c["usage"] for c in [first, *middle, last]} == {None}


def test_stream_without_usage_has_none(serve):
    assert all("usage" not in chunk for chunk in chunks_of(chat(serve(), stream=True)))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_stream_adds_up_to_the_whole_answer(serve, size):
    client = serve(FakeEngine(lambda prompt: pieces(CALL, size)))
    message = chat(client, tools=TOOLS).json["choices"][0]["message"]
    joined = {"role": "", "content": "", "reasoning_content": ""}
    calls = {}
    for chunk in chunks_of(chat(client, tools=TOOLS, stream=True)):
        delta = chunk["choices"][0]["delta"]
        for call in delta.pop("tool_calls", []):
            known = calls.setdefault(call["index"], {"id": "", "type": "", "function": {"name": "", "arguments": ""}})
            for name in ("id", "type"):
                known[name] += call.get(name, "")
            for name in ("name", "arguments"):
                known["function"][name] += call["function"].get(name, "")
        for name, text in delta.items():
            joined[name] += text
    assert {**joined, "tool_calls": [calls[i] for i in sorted(calls)]} == message
    assert chunk["choices"][0]["finish_reason"] == "tool_calls"


def test_models(serve):
    client = serve()
    (model,) = client.get("/v1/models").json["data"]
    assert model["id"] == "acme/fake-moe"
    assert client.get("/v1/models/acme/fake-moe").json == model
    assert error_of(client.get("/v1/models/other"), 404)["code"] == "model_not_found"


def test_full_queue_is_a_429_with_retry_after(serve):
    engine = FakeEngine()
    engine.gate.clear()
    client = serve(engine, max_running=1, max_queued=0)
    stream = client.post("/v1/chat/completions", json={**HELLO, "stream": True}, buffered=False)
    response = chat(client)
    assert error_of(response, 429)["code"] == "queue_full"
    assert int(response.headers["Retry-After"]) >= 1
    engine.gate.set()
    assert events_of(stream)[-1] == "[DONE]"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_that_nobody_reads_gives_up_its_place(serve, path):
    engine = FakeEngine()
    engine.gate.clear()
    client = serve(engine, max_running=1, max_queued=1)
    body = {**(HELLO if "chat" in path else {"prompt": "x"}), "stream": True}
    running = client.post(path, json=body, buffered=False)
    for _ in range(3):
        waiting = client.post(path, json=body, buffered=False)
        assert waiting.status_code == 200  # there was a place
        waiting.close()
    engine.gate.set()
    assert events_of(running)[-1] == "[DONE]"
    assert len(engine.params) == 1  # the others never ran


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_silent_stream_says_that_it_lives(serve, path, monkeypatch):
    monkeypatch.setattr(replies, "KEEP_ALIVE_SECONDS", 0.0)
    engine = FakeEngine()
    engine.gate.clear()
    body = {**(HELLO if "chat" in path else {"prompt": "x"}), "stream": True}
    response = serve(engine).post(path, json=body, buffered=False)
    first, *waits = (next(response.response) for _ in range(3))
    assert (first == replies.KEEP_ALIVE) == ("chat" not in path)
    assert waits == [replies.KEEP_ALIVE] * 2
    engine.gate.set()
    assert list(response.response)[-1] == replies.DONE


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_that_left_is_no_failure(serve, path, caplog):
    body = {**(HELLO if "chat" in path else {"prompt": "x"}), "stream": True}
    gone = {"waitress.client_disconnected": lambda: True}
    response = serve(FakeEngine(step_seconds=20.0)).post(path, json=body, environ_overrides=gone)
    assert response.text.count("\n\n") == 1  # what leaves at once
    assert caplog.records == []


def test_a_request_meets_the_service_once(serve, monkeypatch):
    asked = []
    for owner, name in ((Service, "ready_for"), (Loaded, "limits")):
        real = getattr(owner, name)

        def counted(*arguments, real=real, name=name):
            asked.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, counted)
    assert chat(serve()).status_code == 200
    assert asked == ["ready_for", "limits"]


def test_failure_before_an_answer_has_a_status(serve, caplog):
    assert error_of(chat(serve(FakeEngine(lambda prompt: [BrokenLogits("NaN")]))), 500)["code"] == "internal_error"
    assert error_of(chat(serve(FakeEngine(lambda prompt: [ValueError("boom")]))), 500)["code"] == "internal_error"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]  # each is told once
    assert "NaN" in caplog.text
    assert "boom" in caplog.text
    error_of(chat(serve(FakeEngine(lambda prompt: [MidwayError("logit_bias names token 9")]))), 400)


def test_want_of_memory_is_the_servers_fault(engine, monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    service = Service()
    service.open(engine)
    client = create_app(service, Guard()).test_client()
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        response = chat(client, max_tokens=2)
    answered = chat(client, max_tokens=2)  # the failure took no place, and there is room again
    service.close()
    error = error_of(response, 503)
    assert (error["type"], error["code"]) == ("service_unavailable_error", "out_of_memory")
    assert "raise the limit on virtual memory" in error["message"]
    assert int(response.headers["Retry-After"]) >= 1
    assert "Cannot allocate memory" in caplog.text
    assert answered.status_code == 200


def test_an_array_that_cannot_be_made_is_the_servers_fault(serve):
    message = error_of(chat(serve(FakeEngine(lambda prompt: [MemoryError()]))), 503)["message"]
    assert message == "The server has no memory left for this request."


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_failure_in_mid_stream_is_an_event_and_never_done(serve, path):
    client = serve(FakeEngine(lambda prompt: ["a", "b", ValueError("secret")]))
    body = {**(HELLO if "chat" in path else {"prompt": "x"}), "stream": True}
    *_, last = events_of(client.post(path, json=body))
    assert json.loads(last)["error"]["code"] == "internal_error"
    assert "secret" not in last


def test_completion(serve):
    client = serve(FakeEngine(lambda prompt: [prompt, "!"]))
    body = client.post("/v1/completions", json={"prompt": "<|user|>x", "echo": False}).json
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "<|user|>x!", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["total_tokens"] == 12
    assert client.post("/v1/completions", json={"prompt": [104, 105]}).json["choices"][0]["text"] == "hi!"
    assert client.post("/v1/completions", json={"prompt": ["hi"]}).json["choices"][0]["text"] == "hi!"


def test_completion_streams(serve):
    body = {"prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    *texts, usage = chunks_of(serve().post("/v1/completions", json=body))
    assert "".join(c["choices"][0]["text"] for c in texts) == "Hello!"
    assert [c["choices"][0]["finish_reason"] for c in texts] == [None, None, None, "stop"]
    assert usage["usage"]["completion_tokens"] == 4


def test_probes(serve):
    client = serve()
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_loading_and_draining_are_503_with_retry_after():
    service = Service()
    client = create_app(service, Guard()).test_client()
    assert client.get("/livez").status_code == 200
    for response in (client.get("/readyz"), client.get("/v1/models"), chat(client)):
        assert error_of(response, 503)["code"] == "loading"
        assert response.headers["Retry-After"]
    service.open(FakeEngine())
    assert client.get("/readyz").status_code == 200
    service.stop_accepting()
    assert error_of(client.get("/readyz"), 503)["code"] == "shutting_down"
    assert error_of(chat(client), 503)["code"] == "shutting_down"
    assert client.get("/livez").status_code == 200
    service.close()
