"""Held answers over HTTP, of a model without any sense: calls that are required, named, streamed, beside a schema."""

import json
import re

import jsonschema
import pytest
from edge_client import chat, chunks_of, error_of
from tiny_bundle import TEMPLATE, WORDS, ids_of, write_tiny_bundle

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime import Engine

THINK, END_THINK, ASSISTANT = (WORDS.token_to_id(text) for text in ("<think>", "</think>", "<|assistant|>"))
A, B = ids_of("ab")
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"],
}
LIGHT = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "bath"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
}
SCHEMAS = {"get_weather": WEATHER, "set_light": LIGHT, "stop": None}
TOOLS = [
    {"type": "function", "function": {"name": name, **({"parameters": schema} if schema else {})}}
    for name, schema in SCHEMAS.items()
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
OPEN = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {**OPEN, "additionalProperties": False}}}
HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """It thinks `a`, says `b` and ends, if nobody minds; all else it says at random."""
    says = {ASSISTANT: THINK, THINK: A, A: END_THINK, END_THINK: B, B: WORDS.token_to_id("<|eos|>")}
    template = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + TEMPLATE
    folder = tmp_path_factory.mktemp("toy")
    service = Service()
    service.open(Engine.load(write_tiny_bundle(folder, says, layout="shared", context_length=2048, template=template)))
    yield create_app(service, Guard()).test_client()
    service.close()


def answer(client, **fields):
    """The message and the finish reason, of a whole answer that the chunks of a stream add up to as well."""
    sent = {"messages": HELLO, "seed": 3, "max_tokens": 300, **fields}
    (choice,) = chat(client, **sent).json["choices"]
    message, calls, content = choice["message"], {}, ""
    chunks = chunks_of(chat(client, **sent, stream=True))
    for each in (each for chunk in chunks for each in chunk["choices"]):
        content += each["delta"].get("content") or ""
        for call in each["delta"].get("tool_calls", ()):
            name, arguments = calls.get(call["index"], ("", ""))
            function = call["function"]
            calls[call["index"]] = (function.get("name", name), arguments + function["arguments"])
    assert content == (message["content"] or "")
    whole = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", ())]
    assert list(calls.values()) == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    for name, arguments in whole if choice["finish_reason"] != "length" else ():
        jsonschema.validate(json.loads(arguments), SCHEMAS[name] or {"maxProperties": 0})
    return [name for name, _ in whole], message["content"], choice["finish_reason"]


@pytest.mark.parametrize("choice", ["required", "any", NAMED, ALLOWED], ids=["required", "any", "named", "allowed"])
@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_is_made(client, choice, seed):
    names, content, reason = answer(client, tools=TOOLS, tool_choice=choice, seed=seed, parallel_tool_calls=False)
    assert (len(names), content, reason) == (1, None, "tool_calls")
    if isinstance(choice, dict):
        assert names == ["get_weather"]


def test_several_calls_may_be_required(client):
    ways = [answer(client, tools=TOOLS, tool_choice="required", seed=seed)[0] for seed in range(6)]
    assert all(ways)
    assert max(map(len, ways)) > 1


def test_an_answer_without_calls_is_as_without_tools(client):
    free = answer(client, temperature=0)
    assert free == ([], "b", "stop")
    assert answer(client, temperature=0, tools=TOOLS) == free
    assert answer(client, temperature=0, tools=TOOLS, tool_choice="none") == free


def test_content_is_of_the_schema_or_calls_are_made(client):
    seen = set()
    for seed in range(12):
        names, content, reason = answer(client, tools=TOOLS, response_format=FORMAT, seed=seed, temperature=2)
        assert not (names and content)
        if reason == "stop":
            jsonschema.validate(json.loads(content), OPEN)
        seen.add(reason)
    assert seen >= {"stop", "tool_calls"}
    names, content, _ = answer(client, tools=TOOLS, response_format=FORMAT, tool_choice="none")
    assert set(json.loads(content)) == {"open"}


FORMS = {
    "guided_regex": ("[a-c]{3}", "[a-c]{3}"),
    "guided_choice": (["yes", "no"], "yes|no"),
    "guided_json": ({"enum": [1, 2]}, "1|2"),
    "guided_grammar": ('start: "q" /[0-9]{2}/', "q[0-9]{2}"),
    "structured_outputs": ({"choice": ["x", "y"]}, "x|y"),
    "grammar": ('root ::= "a" b\nb ::= [0-9] "!"\n', "a[0-9]!"),
    "json_schema": ({"type": "boolean"}, "true|false"),
    "response_format": ({"type": "regex", "pattern": "z{1,3}y"}, "z{1,3}y"),
}


@pytest.mark.parametrize(("name", "value", "pattern"), [(name, *form) for name, form in FORMS.items()], ids=FORMS)
def test_content_has_the_form_that_clients_of_other_servers_ask_for(client, name, value, pattern):
    _, content, reason = answer(client, **{name: value})
    assert reason == "stop"
    assert re.fullmatch(pattern, content)
    response = client.post("/v1/completions", json={"prompt": "Hi", name: value, "max_tokens": 60})
    (choice,) = response.json["choices"]
    assert choice["finish_reason"] == "stop"
    assert re.fullmatch(pattern, choice["text"])


def test_what_a_choice_may_not_hold_is_no_form(client):
    for name in (name for name in FORMS if name != "response_format"):
        empty = {} if name in ("structured_outputs", "json_schema", "guided_json") else ""
        assert chat(client, **{name: empty}, max_tokens=1).status_code == 200


def declared(schema, **more):
    return [TOOLS[0], {"type": "function", "function": {"name": "f", "parameters": schema, **more}}]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"guided_regex": "("}, "guided_regex", "unclosed group"),
        ({"guided_regex": "a{20000}"}, "guided_regex", "repeats a part 20000 times"),
        ({"guided_regex": "(a{200}){200}"}, "guided_regex", "repeats a part 40000 times"),
        ({"guided_regex": 1}, "guided_regex", "must be a text"),
        ({"guided_choice": []}, None, None),
        ({"guided_choice": [1]}, "guided_choice", "list of texts"),
        ({"guided_choice": "yes"}, "guided_choice", "list of texts"),
        ({"guided_json": "{"}, "guided_json", "no JSON"),
        ({"guided_json": [1]}, "guided_json", "must be a JSON schema"),
        ({"grammar": "start: x"}, "grammar", 'unknown name: "x"'),
        ({"grammar": "root ::= ("}, "grammar", "GBNF cannot be read"),
        ({"grammar": "start: x\nx[temperature=0.5]: /a/"}, "grammar", "option temperature"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "more than one form"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs.structural_tag", "not supported"),
        ({"structured_outputs": {"shape": 1}}, "structured_outputs.shape", "no such field"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type", "must be one of"),
        ({"response_format": FORMAT, "guided_regex": "a"}, "guided_regex", "response_format gives"),
        ({"json_schema": {"pattern": "a{20000}"}}, "json_schema", "repeats a part"),
        ({"json_schema": json.loads('{"not":' * 70 + "{}" + "}" * 70)}, "json_schema", "64 deep"),
        ({"tools": declared({"properties": {"a": {"type": "strin"}}})}, "tools[1].function.parameters", "strin"),
        ({"tools": declared({"properties": {"a": {"pattern": "("}}})}, "tools[1].function.parameters", "unclosed"),
        ({"tools": declared({"$ref": "#/$defs/no"})}, "tools[1].function.parameters", "f cannot be held"),
        ({"tools": declared({"properties": {"a": {"not": {}}}}, strict=True)}, "tools[1].function.parameters", "not"),
        ({"tools": declared({"properties": {"a": {"not": {}}}})}, None, None),  # left to the model
    ],
    ids=str,
)
def test_what_cannot_be_held_is_named(client, fields, param, said):
    response = chat(client, messages=HELLO, max_tokens=1, **fields)
    if param is None:
        assert response.status_code == 200, response.text
        return
    error = error_of(response, 400)
    assert error["param"] == param
    assert said in error["message"]
    assert "\n" not in error["message"]


def test_thinking_that_is_cut_is_followed_by_the_call(client):
    names, content, reason = answer(
        client, tools=TOOLS, tool_choice="required", thinking_budget=1, parallel_tool_calls=False
    )
    assert (len(names), content, reason) == (1, None, "tool_calls")
