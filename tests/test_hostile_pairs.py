"""Every two sampling fields together, on a real engine: no error, bounds kept, the same again, streamed as whole."""

import itertools
import json

import pytest
from edge_client import TOOLS, chunks_of
from tiny_bundle import write_tiny_bundle

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime import Engine

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
FIELDS = {
    "n": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "seed": {"seed": 1 << 63},
    "stop": {"stop": ["e", "hello"]},
    "logit_bias": {"logit_bias": {"5": 100, "6": -100}},
    "presence": {"presence_penalty": 2},
    "frequency": {"frequency_penalty": -2},
    "repetition": {"repetition_penalty": 10},
    "min_p": {"min_p": 1},
    "top_k": {"top_k": 1},
    "top_p": {"top_p": 0},
    "greedy": {"temperature": 0},
    "hot": {"temperature": 2},
    "length": {"max_tokens": 1},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    "object": {"response_format": {"type": "json_object"}},
    "tools": {"tools": TOOLS},
    "guesses": {"prompt_lookup_num_tokens": 4},
    "usage": {"stream_options": {"include_usage": True}},
}
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|user|>{{ m['content'] }}<|im_end|>{% endfor %}<|assistant|>"
)
# what may be refused, by name: never a failure, never ignored
REFUSED = {frozenset({"schema", "tools"}), frozenset({"object", "tools"})}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("pairs") / "toy", context_length=256, template=TEMPLATE)
    service = Service()
    service.open(Engine.load(bundle), max_running=4)
    yield create_app(service, Guard()).test_client()
    service.close()


def ask(client, body):
    return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("first", FIELDS)
def test_every_field_goes_with_every_other(client, first):
    for second in itertools.dropwhile(lambda name: name != first, FIELDS):
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "seed": 7}
        body |= {**FIELDS[first], **FIELDS[second]}
        names = {first, second}
        options = {name: body.pop("stream_options") for name in ["stream_options"] if name in body}
        whole = ask(client, body)
        if whole.status_code == 400 and (
            frozenset(names) in REFUSED or ("guesses" in names and whole.json["error"]["param"])
        ):
            assert whole.json["error"]["param"] in body, (names, whole.text)
            continue
        assert whole.status_code == 200, (names, whole.text)
        again = ask(client, body).json
        assert [shown(choice) for choice in whole.json["choices"]] == [shown(choice) for choice in again["choices"]], (
            names
        )
        check(whole.json, body, names)
        streamed = chunks_of(ask(client, {**body, "stream": True, **options}))
        assert joined(streamed, body.get("n", 1)) == [shown(choice) for choice in whole.json["choices"]], names


def shown(choice):
    message = choice["message"]
    calls = [call["function"] for call in message.get("tool_calls") or []]
    text = (message.get("reasoning_content") or "") + "|" + (message["content"] or "")
    told = [(entry["token"], round(entry["logprob"], 4)) for entry in (choice["logprobs"] or {}).get("content") or ()]
    return text, calls, choice["finish_reason"], told


def joined(chunks, answers):
    texts = [["", "", [], None, []] for _ in range(answers)]
    for chunk in chunks:
        for choice in chunk["choices"]:
            text, delta = texts[choice["index"]], choice["delta"]
            text[0] += delta.get("reasoning_content") or ""
            text[1] += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                while len(text[2]) <= call["index"]:
                    text[2].append({"name": "", "arguments": ""})
                for name, part in call["function"].items():
                    text[2][call["index"]][name] += part
            text[3] = choice["finish_reason"] or text[3]
            for entry in (choice["logprobs"] or {}).get("content") or ():
                text[4].append((entry["token"], round(entry["logprob"], 4)))
    return [(f"{thought}|{said}", calls, reason, told) for thought, said, calls, reason, told in texts]


def check(answer, body, names):
    assert len(answer["choices"]) == body.get("n", 1)
    usage = answer["usage"]
    assert usage["completion_tokens"] <= body["max_tokens"] * body.get("n", 1)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    for choice in answer["choices"]:
        assert choice["finish_reason"] in ("stop", "length", "tool_calls"), names
        content = choice["message"]["content"] or ""
        if "stop" in names:
            assert "hello" not in content
            assert "e" not in content
        if "schema" in names and choice["finish_reason"] == "stop" and not names & {"stop", "object"}:
            assert isinstance(json.loads(content)["a"], bool)
        for entry in (choice["logprobs"] or {}).get("content") or ():
            assert entry["logprob"] <= 0
            assert len(entry["top_logprobs"]) <= 2
