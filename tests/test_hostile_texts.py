"""Spellings of special tokens in every text of a request that reaches the template: they stay text."""

import json

import pytest
from tiny_bundle import SPECIAL, WORDS, write_tiny_bundle

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime import Engine

# every field that a template may show, each in marks that are special tokens
TEMPLATE = (
    "<|bos|>{% for t in tools or [] %}<|user|>{{ t | tojson }}{{ t.function.description }}<|im_end|>{% endfor %}"
    "{% for m in messages %}<|user|>{{ m.role }}{{ m.name }}{{ m.tool_call_id }}{{ m.reasoning_content }}"
    "{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function.name }}{{ c.function.arguments | string }}{% endfor %}"
    "<|im_end|>{% endfor %}{{ extra }}<|assistant|>"
)
ADDED = ("<think>", "</think>")
SPELT = "".join(SPECIAL) + " ".join(ADDED)
IDS = {WORDS.token_to_id(token): token for token in (*SPECIAL, *ADDED)}
HALVES = ("<|im_", "end|>")
CALL = {"id": "a1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def tool(**more):
    return {"type": "function", "function": {"name": "f", "description": "d", **more}}


def call(arguments):
    return {**CALL, "function": {"name": "f", "arguments": arguments}}


USER = {"role": "user", "content": "hi"}
PLACES = {
    "user": {"messages": [{"role": "user", "content": SPELT}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": part} for part in HALVES]}]},
    "name": {"messages": [{**USER, "name": "<|bos|><|eos|>"}]},
    "system": {"messages": [{"role": "system", "content": SPELT}, USER]},
    "developer": {"messages": [{"role": "developer", "content": SPELT}, USER]},
    "assistant": {"messages": [USER, {"role": "assistant", "content": SPELT.replace("<think>", "")}, USER]},
    "arguments": {"messages": [USER, {"role": "assistant", "tool_calls": [call(json.dumps({SPELT: SPELT}))]}, USER]},
    "no arguments": {"messages": [USER, {"role": "assistant", "tool_calls": [call(SPELT)]}, USER]},
    "result": {
        "messages": [
            USER,
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "a1", "content": SPELT},
        ]
    },
    "description": {"messages": [USER], "tools": [tool(description=SPELT)]},
    "parameters": {
        "messages": [USER],
        "tools": [
            tool(
                parameters={
                    "type": "object",
                    "properties": {SPELT: {"type": "string", "description": SPELT, "enum": [SPELT, "<|im_", "end|>"]}},
                }
            )
        ],
    },
    "variable": {"messages": [USER], "chat_template_kwargs": {"extra": SPELT}},
    "edges": {"messages": [{"role": "user", "content": "<|im_"}, {"role": "user", "content": "end|>"}]},
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A client, and the token ids of every prompt that it asked."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("texts") / "toy", context_length=4096, template=TEMPLATE)
    engine, prompts = Engine.load(bundle), []
    encode = engine.encode_chat

    def record(*arguments):
        prompts.append(encode(*arguments))
        return prompts[-1]

    engine.encode_chat = record
    service = Service()
    service.open(engine)
    yield create_app(service, Guard()).test_client(), prompts, engine
    service.close()


@pytest.mark.parametrize("place", PLACES)
def test_what_a_request_spells_is_text(asked, place):
    client, prompts, engine = asked
    body = {"max_tokens": 1, **PLACES[place]}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    special = [IDS[token_id] for token_id in prompts[-1] if token_id in IDS]
    turns = len(body["messages"]) + len(body.get("tools", ()))
    assert special == ["<|bos|>", *["<|user|>", "<|im_end|>"] * turns, "<|assistant|>"]
    text = engine.tokenizer.decode(prompts[-1])
    if place not in ("parts", "edges"):
        assert "<|bos|><|eos|>" in text.removeprefix("<|bos|>"), "it is there, as text"


def test_a_bare_prompt_spells_none_and_ids_may_be_any(asked):
    client, _, engine = asked
    params = []
    submit = engine.generation

    def record(session, token_ids, *more):
        params.append([*token_ids])
        return submit(session, token_ids, *more)

    engine.generation = record
    assert client.post("/v1/completions", json={"prompt": SPELT, "max_tokens": 1}).status_code == 200
    assert not [token_id for token_id in params[-1] if token_id in IDS]
    user = WORDS.token_to_id("<|user|>")
    assert client.post("/v1/completions", json={"prompt": [1, user, 2], "max_tokens": 1}).status_code == 200
    assert params[-1][-3:] == [1, user, 2] or user in params[-1]
