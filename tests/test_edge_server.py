"""The endpoint over a fake engine: answers, streams, strictness, who is let in. Sockets: test_edge_sockets.py."""

import json

import pytest
from fake_engine import FakeEngine, MidwayError

from moedge.devices.errors import MoedgeError
from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard, make_guard
from moedge.edge_server.service import Service
from moedge.edge_server.startup import greeting
from moedge.runtime.generation import BrokenLogits

CALL = (
    "<think>lamp</think>Sure.<|tool_calls_section_begin|><|tool_call_begin|>functions.set_light:0"
    '<|tool_call_argument_begin|>{"room": "kitchen"}<|tool_call_end|><|tool_calls_section_end|>'
)
TOOLS = [{"type": "function", "function": {"name": "set_light", "parameters": {"type": "object", "properties": {}}}}]
HELLO = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def serve():
    services = []

    def serve(engine=None, guard=None, **settings):
        service = Service()
        service.open(engine or FakeEngine(), **settings)
        services.append((engine, service))
        return create_app(service, guard or Guard()).test_client()

    yield serve
    for engine, service in services:
        if engine is not None:
            engine.gate.set()
        service.close()


def pieces(text, size=3):
    return [text[i : i + size] for i in range(0, len(text), size)]


def error_of(response, status):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    return response.json["error"]


def events_of(response):
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    lines = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks_of(response):
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def chat(client, **fields):
    return client.post("/v1/chat/completions", json={**HELLO, **fields})


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
        "completion_tokens": 3,
        "total_tokens": prompt + 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert body["timings"]["generated_tokens"] == 3


def test_chat_reads_thoughts_and_tool_calls(serve):
    body = chat(serve(FakeEngine(lambda prompt: pieces(CALL))), tools=TOOLS).json
    (choice,) = body["choices"]
    function = {"name": "set_light", "arguments": '{"room": "kitchen"}'}
    assert choice["message"] == {
        "role": "assistant",
        "content": "Sure.",
        "reasoning_content": "lamp",
        "tool_calls": [{"id": "functions.set_light:0", "type": "function", "function": function}],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_call_alone_has_null_content_and_a_cut_one_says_length(serve):
    text = CALL[CALL.index("<|tool") :]
    assert chat(serve(FakeEngine(lambda prompt: [text])), tools=TOOLS).json["choices"][0]["message"]["content"] is None
    cut = chat(serve(FakeEngine(lambda prompt: pieces(text))), tools=TOOLS, max_tokens=30).json["choices"][0]
    assert cut["finish_reason"] == "length"


def test_stream_has_role_text_reason_usage_done(serve):
    response = chat(serve(), stream=True, stream_options={"include_usage": True})
    first, *middle, last, usage = chunks_of(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["choices"][0]["delta"]["content"] for c in middle] == ["Hel", "lo", "!"]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert last["timings"]["generated_tokens"] == 3
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
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


def test_tools_are_shown_unless_choice_is_none(serve):
    client = serve(FakeEngine(lambda prompt: [prompt]))
    assert "set_light" in chat(client, tools=TOOLS, tool_choice="auto").json["choices"][0]["message"]["content"]
    assert "set_light" not in chat(client, tools=TOOLS, tool_choice="none").json["choices"][0]["message"]["content"]


def test_conversation_reaches_the_template(serve):
    call = {"id": "functions.a:0", "type": "function", "function": {"name": "a", "arguments": '{"x": 1}'}, "index": 0}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "functions.a:0", "content": "4"},
    ]
    client = serve(FakeEngine(lambda prompt: [prompt]))
    text = client.post("/v1/chat/completions", json={"messages": messages}).json["choices"][0]["message"]["content"]
    assert text == '<|system|>Be brief.<|user|>ab<|assistant|>[functions.a:0]{"x": 1}<|tool|>4<|assistant|>'


def test_sampling_fields_lie_over_the_models_defaults(serve):
    engine = FakeEngine()
    client = serve(engine)
    chat(client)
    fields = {"top_p": 0.5, "top_k": 7, "min_p": 0.1, "seed": 3, "stop": "x", "max_completion_tokens": 2}
    chat(client, **fields, logit_bias={"5": -100}, temperature=0, presence_penalty=1, user="me", n=1, store=None)
    plain, stated = engine.params
    assert plain == engine.defaults
    assert (stated.temperature, stated.top_p, stated.top_k, stated.min_p, stated.seed) == (0, 0.5, 7, 0.1, 3)
    assert (stated.stop, stated.max_tokens, stated.logit_bias, stated.presence_penalty) == (("x",), 2, {5: -100}, 1)


UNSUPPORTED = {
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "top_logprobs": 3,
    "n": 2,
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "functions": [],
    "reasoning_effort": "low",
    "chat_template_kwargs": {"x": 1},
    "modalities": ["audio"],
}
BAD = {
    "temperature": 3,
    "top_p": 0,
    "top_k": 1.5,
    "min_p": "x",
    "seed": -1,
    "stop": ["a"] * 5,
    "max_tokens": 0,
    "logit_bias": {"x": 1},
    "repetition_penalty": 11,
    "presence_penalty": True,
    "stream": "yes",
    "stream_options": {"include_usage": True},
    "messages": [],
    "tools": {"a": 1},
    "temprature": 1,
}


@pytest.mark.parametrize(("name", "value"), [*UNSUPPORTED.items(), *BAD.items()], ids=[*UNSUPPORTED, *BAD])
def test_field_that_cannot_be_honoured_is_named(serve, name, value):
    error = error_of(chat(serve(), **{name: value}), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", name)


BAD_MESSAGES = {
    "messages[0]": "hi",
    "messages[0].role": {"role": "god", "content": "x"},
    "messages[0].content": {"role": "user"},
    "messages[0].content[0].type": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
    "messages[0].tool_call_id": {"role": "tool", "content": "x"},
    "messages[0].colour": {"role": "user", "content": "x", "colour": 1},
    "messages[0].tool_calls": {"role": "assistant", "tool_calls": "x"},
}


@pytest.mark.parametrize(("param", "message"), BAD_MESSAGES.items(), ids=BAD_MESSAGES)
def test_bad_message_is_named(serve, param, message):
    assert error_of(chat(serve(), messages=[message]), 400)["param"] == param


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "browser"},
        {"type": "function"},
        {"type": "function", "function": {"name": "a b"}},
        {"type": "function", "function": {"name": "a", "parameters": []}},
        {"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}},
        {"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": 3}}}},
        {"type": "function", "function": {"name": "a", "parameters": {"properties": []}}},
        {"type": "function", "function": {"name": "a", "parameters": {"required": [1]}}},
        {"type": "function", "function": {"name": "a", "strict": True}},
        {"type": "function", "function": {"name": "a", "description": "x" * 70_000}},
    ],
)
def test_bad_tool_is_a_400(serve, tool):
    assert error_of(chat(serve(), tools=[tool]), 400)["param"].startswith("tools[0]")


def test_tools_for_a_model_that_calls_none_are_refused(serve):
    assert error_of(chat(serve(FakeEngine(chat_format="plain")), tools=TOOLS), 400)["param"] == "tools"


BAD_BODIES = {
    "empty": b"",
    "blank": b"  ",
    "list": b"[]",
    "null": b"null",
    "cut": b'{"messages": [',
    "nan": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "1e999": b'{"temperature": 1e999}',
    "digits": b'{"seed": ' + b"1" * 5000 + b"}",
    "duplicate": b'{"a": 1, "a": 2}',
    "utf-8": b'{"a": "\xff"}',
    "surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "surrogate key": b'{"\\ud800": 1}',
    "deep": b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "rather deep": b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_malformed_body_is_a_400_in_json(serve, body):
    response = serve().post("/v1/chat/completions", data=body, content_type="application/json")
    assert error_of(response, 400)["code"] == "invalid_json"


def test_other_content_types_are_a_415(serve):
    client = serve()
    body = json.dumps(HELLO)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        error_of(client.post("/v1/chat/completions", data=body, content_type=kind), 415)
    response = client.post(
        "/v1/completions", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    error_of(response, 415)
    typed = client.post("/v1/chat/completions", data=body, content_type="application/json; charset=utf-8")
    assert typed.status_code == 200


def test_errors_of_flask_are_json_too(serve):
    client = serve()
    error_of(client.get("/nowhere"), 404)
    error_of(client.get("/v1//models"), 404)
    error_of(client.options("/v1/models"), 405)
    assert "POST" in client.get("/v1/chat/completions").headers["Allow"]
    error_of(client.get("/v1/chat/completions"), 405)
    error_of(client.post("/v1/chat/completions", data=b"x" * ((4 << 20) + 1), content_type="application/json"), 413)


def test_bug_is_a_500_without_details(serve, monkeypatch):
    engine = FakeEngine()
    monkeypatch.setattr(engine, "encode_chat", lambda *_: 1 / 0)
    error = error_of(chat(serve(engine)), 500)
    assert error["code"] == "internal_error"
    assert "division" not in error["message"]


def test_unknown_model_is_a_404(serve):
    assert error_of(chat(serve(), model="gpt-4o"), 404)["code"] == "model_not_found"


def test_models(serve):
    client = serve()
    (model,) = client.get("/v1/models").json["data"]
    assert model["id"] == "acme/fake-moe"
    assert client.get("/v1/models/acme/fake-moe").json == model
    assert error_of(client.get("/v1/models/other"), 404)["code"] == "model_not_found"


def test_context_limit(serve):
    client = serve(FakeEngine(lambda prompt: ["a"] * 100, context_length=30))
    room = 30 - len("<|user|><|assistant|>")
    assert chat(client, messages=[{"role": "user", "content": "x" * room}], max_tokens=1).status_code == 200
    error = error_of(chat(client, messages=[{"role": "user", "content": "x" * (room + 1)}]), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error_of(client.post("/v1/completions", json={"prompt": "x" * 31}), 400)["param"] == "prompt"
    assert "31" in error["message"]
    assert "30" in error["message"]


def test_template_refusal_is_a_400(serve, monkeypatch):
    engine = FakeEngine()

    def refuse(*_):
        raise MoedgeError("the chat template refuses these messages: roles must alternate")

    monkeypatch.setattr(engine, "encode_chat", refuse)
    assert "alternate" in error_of(chat(serve(engine)), 400)["message"]


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


def test_failure_before_an_answer_has_a_status(serve, caplog):
    assert error_of(chat(serve(FakeEngine(lambda prompt: [BrokenLogits("NaN")]))), 500)["code"] == "internal_error"
    assert error_of(chat(serve(FakeEngine(lambda prompt: [ValueError("boom")]))), 500)["code"] == "internal_error"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]  # each is told once
    assert "NaN" in caplog.text
    assert "boom" in caplog.text
    error_of(chat(serve(FakeEngine(lambda prompt: [MidwayError("logit_bias names token 9")]))), 400)


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
    assert body["usage"]["total_tokens"] == 11
    assert client.post("/v1/completions", json={"prompt": [104, 105]}).json["choices"][0]["text"] == "hi!"
    assert client.post("/v1/completions", json={"prompt": ["hi"]}).json["choices"][0]["text"] == "hi!"


def test_completion_streams(serve):
    body = {"prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    *texts, usage = chunks_of(serve().post("/v1/completions", json=body))
    assert "".join(c["choices"][0]["text"] for c in texts) == "Hello!"
    assert [c["choices"][0]["finish_reason"] for c in texts] == [None, None, "stop"]
    assert usage["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [1, "a"], [-1], [1.5], [True], 7, [0x110000]])
def test_bad_prompt_is_named(serve, prompt):
    assert error_of(serve().post("/v1/completions", json={"prompt": prompt}), 400)["param"] == "prompt"


def test_completion_fields_that_cannot_be_honoured(serve):
    for name, value in {"echo": True, "best_of": 2, "suffix": "x", "logprobs": 1}.items():
        response = serve().post("/v1/completions", json={"prompt": "x", name: value})
        assert error_of(response, 400)["param"] == name


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


def test_every_route_but_the_probes_wants_the_key(serve):
    client = serve(guard=Guard(api_key="correct-horse"))
    for rule in client.application.url_map.iter_rules():
        path = rule.rule.replace("<path:model>", "acme/fake-moe")
        for method in sorted(rule.methods):
            allowed = path in ("/livez", "/readyz")
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic correct-horse"}):
                status = client.open(path, method=method, headers=headers).status_code
                assert (status != 401) == allowed, (method, path)
    error_of(client.get("/nowhere"), 401)
    good = {"Authorization": "Bearer correct-horse"}
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.post("/v1/chat/completions", json=HELLO, headers=good).status_code == 200


@pytest.mark.parametrize(
    ("host", "loopback", "open_"),
    [
        ("localhost:8080", 200, 200),
        ("LOCALHOST", 200, 200),
        ("127.0.0.1:8080", 200, 200),
        ("[::1]:8080", 200, 200),
        ("192.168.1.7:8080", 403, 200),
        ("evil.example", 403, 403),
        ("127.0.0.1.evil.example", 403, 403),
        ("pi.lan", 200, 200),
        ("", 403, 403),
    ],
)
def test_host_header(serve, host, loopback, open_):
    for address, key, status in (("127.0.0.1", None, loopback), ("0.0.0.0", "correct-horse", open_)):
        client = serve(guard=make_guard(address, key, ("pi.lan",)))
        headers = {"Host": host, "Authorization": f"Bearer {key}"}
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == status, (address, response.text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "pi.lan"])
def test_other_machines_need_a_key(host):
    with pytest.raises(MoedgeError, match="MOEDGE_API_KEY"):
        make_guard(host, None)
    assert make_guard(host, "correct-horse").api_key


@pytest.mark.parametrize("key", ["", "short", "schlüssel-lang", "with\nnewline-in-it", " " * 20])
def test_useless_key_is_refused(key):
    with pytest.raises(MoedgeError, match="API key"):
        make_guard("127.0.0.1", key)


def test_key_is_not_in_what_python_prints():
    assert "correct-horse" not in repr(make_guard("127.0.0.1", "correct-horse"))


@pytest.mark.parametrize(("chat_format", "asked"), [("kimi_k2", "kitchen light"), ("plain", "Hello"), (None, "prompt")])
def test_greeting_has_a_line_to_try_and_no_key(chat_format, asked):
    text = greeting("acme/fake", "http://127.0.0.1:8080", "correct-horse", chat_format)
    path = "completions" if chat_format is None else "chat/completions"
    assert f"curl http://127.0.0.1:8080/v1/{path} " in text
    assert asked in text
    assert ("set_light" in text) == (chat_format == "kimi_k2")
    assert "$MOEDGE_API_KEY" in text
    assert "correct-horse" not in text
