"""What the endpoint makes of a request: fields that count, fields that are refused, bodies that are broken."""

import json

import pytest
from edge_client import HELLO, TOOLS, chat, error_of
from fake_engine import FakeEngine
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime import Engine


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
    assert (stated.max_tokens, stated.logit_bias, stated.presence_penalty) == (2, {5: -100}, 1)


UNSUPPORTED = {
    "logprobs": 1,
    "top_logprobs": 3,  # and logprobs is not true
    "n": 5,
    "tool_choice": "required",  # and there are no tools
    "functions": [{"name": "f"}],
    "chat_template_kwargs": {"x": 1},
    "modalities": ["audio"],
}
BAD = {
    "temperature": 3,
    "top_p": -0.1,
    "top_k": 1.5,
    "min_p": "x",
    "seed": 1 << 64,
    "stop": ["a"] * 5,
    "max_tokens": 0,
    "parallel_tool_calls": "no",
    "logit_bias": {"x": 1},
    "repetition_penalty": 11,
    "reasoning_effort": "lowest",
    "presence_penalty": True,
    "stream": "yes",
    "stream_options": [],
    "messages": [],
    "tools": {"a": 1},
    "temprature": 1,
}


@pytest.mark.parametrize("penalty", [0, 1e-40, 0.0099, 10.1])
def test_a_repetition_penalty_out_of_bounds_is_named(serve, penalty):
    assert error_of(chat(serve(), repetition_penalty=penalty), 400)["param"] == "repetition_penalty"


@pytest.mark.parametrize("penalty", [0.01, 10])
def test_the_bounds_of_the_repetition_penalty_can_be_sampled(tmp_path, serve, penalty):
    client = serve(Engine.load(write_tiny_bundle(tmp_path)))
    body = {"prompt": "hello", "max_tokens": 3, "repetition_penalty": penalty}
    assert client.post("/v1/completions", json=body).status_code == 200


@pytest.mark.parametrize(("name", "value"), [*UNSUPPORTED.items(), *BAD.items()], ids=[*UNSUPPORTED, *BAD])
def test_field_that_cannot_be_honoured_is_named(serve, name, value):
    error = error_of(chat(serve(), **{name: value}), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", name)


def test_true_is_not_one(serve):
    assert error_of(chat(serve(), n=True), 400)["param"] == "n"


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
        {"type": "function", "function": {"name": "a", "strict": "yes"}},
        {"type": "function", "function": {"name": "a", "description": "x" * 70_000}},
    ],
)
def test_bad_tool_is_a_400(serve, tool):
    assert error_of(chat(serve(), tools=[tool]), 400)["param"].startswith("tools[0]")


def test_tools_for_a_model_that_calls_none_are_refused(serve):
    assert error_of(chat(serve(FakeEngine(chat_format="plain")), tools=TOOLS), 400)["param"] == "tools"


def test_tools_that_the_template_would_drop_are_refused(serve):
    client = serve(FakeEngine(template="<|user|>{{ messages[0].content }}<|assistant|>"))
    error = error_of(chat(client, tools=TOOLS), 400)
    assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
    assert "never shows tools" in error["message"]
    assert chat(client, tools=TOOLS, tool_choice="none").status_code == 200
    assert chat(client, tools=[]).status_code == 200


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
    error_of(client.patch("/v1/models"), 405)
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


def test_context_limit(serve):
    client = serve(FakeEngine(lambda prompt: ["a"] * 100, context_length=30))
    room = 30 - len("<|user|><|assistant|>")
    assert chat(client, messages=[{"role": "user", "content": "x" * room}], max_tokens=1).status_code == 200
    error = error_of(chat(client, messages=[{"role": "user", "content": "x" * (room + 1)}]), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error_of(client.post("/v1/completions", json={"prompt": "x" * 31}), 400)["param"] == "prompt"
    assert error["message"] == "This model's maximum context length is 30 tokens, and the prompt has 31 tokens."


def test_a_text_beyond_what_a_template_may_write_is_beyond_the_context_too(serve):
    error = error_of(chat(serve(), messages=[{"role": "user", "content": "x" * (1 << 20)}]), 400)
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("This model's maximum context length is 4096 tokens")
    body = {"prompt": "x" * ((1 << 20) + 1)}
    assert error_of(serve().post("/v1/completions", json=body), 400)["code"] == "context_length_exceeded"


def test_template_refusal_is_a_400(serve, monkeypatch):
    engine = FakeEngine()

    def refuse(*_):
        raise MoedgeError("the chat template refuses these messages: roles must alternate")

    monkeypatch.setattr(engine, "encode_chat", refuse)
    assert "alternate" in error_of(chat(serve(engine)), 400)["message"]


@pytest.mark.parametrize(
    "prompt", [None, "", [], ["a"] * 17, ["a", ""], [[]], [1, "a"], [-1], [1.5], [True], 7, [0x110000]]
)
def test_bad_prompt_is_named(serve, prompt):
    assert error_of(serve().post("/v1/completions", json={"prompt": prompt}), 400)["param"] == "prompt"


def test_completion_fields_that_cannot_be_honoured(serve):
    for name, value in {"echo": True, "best_of": 2, "suffix": "x", "logprobs": 21}.items():
        body = {"prompt": "x", "logprobs": 1 if name == "echo" else None, name: value}
        response = serve().post("/v1/completions", json=body)
        assert error_of(response, 400)["param"] == name
