"""What POST /v1/responses refuses, each by the name that its client sent."""

import pytest
from edge_client import error_of
from fake_engine import FakeEngine

from moedge.edge_server.app import create_app
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import bad_field
from moedge.edge_server.guard import Guard
from moedge.edge_server.responses.responses_names import response_names
from moedge.edge_server.service import Service

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "x"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,", "detail": "auto"}
SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
GRAMMAR = {"type": "grammar", "syntax": "regex", "definition": "a+"}
HOSTED = ("web_search", "web_search_preview", "file_search", "mcp", "code_interpreter", "image_generation")


def parts(*content, role="user"):
    return [{"role": role, "content": [*content]}]


REFUSED = [
    *(({name: {"id": "x"}}, name) for name in ("conversation", "prompt", "moderation", "image", "access_programs")),
    ({"background": True}, "background"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"messages": [USER]}, "messages"),
    ({"response_format": SCHEMA}, "response_format"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"logprobs": True}, "logprobs"),
    ({"n": 2}, "n"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": "5"}, "max_output_tokens"),
    ({"max_output_token": 5}, "max_output_token"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"include": "logprobs"}, "include"),
    ({"include": ["message.logprobs"]}, "include[0]"),
    ({"include": [{}]}, "include[0]"),
    ({"temperature": 3}, "temperature"),
    ({"truncation": "left"}, "truncation"),
    ({"truncation": ["auto"]}, "truncation"),
    ({"store": "no"}, "store"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"x": 1}}, "stream_options.x"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {"k" * 65: "v"}}, "metadata"),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ({"metadata": []}, "metadata"),
    ({"instructions": [USER]}, "instructions"),
    ({"user": 1}, "user"),
    ({"reasoning": "low"}, "reasoning"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ({"reasoning": {"budget": 3}}, "reasoning.budget"),
    ({"text": "json"}, "text"),
    ({"text": {"form": {}}}, "text.form"),
    ({"text": {"verbosity": "high"}}, "text.verbosity"),
    ({"text": {"format": "json"}}, "text.format"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {**SCHEMA, "schema": 3}}}, "text.format.schema"),
    ({"text": {"format": {**SCHEMA, "json_schema": {}}}}, "text.format.json_schema"),
    *(({"tools": [{"type": kind}]}, "tools[0].type") for kind in (*HOSTED, "namespace", "local_shell", None, 3, {})),
    ({"tools": {}}, "tools"),
    ({"tools": [TOOL] * 129}, "tools"),
    ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "parameters": "x"}]}, "tools[0].parameters"),
    ({"tools": [{**TOOL, "parameters": {"type": "array"}}]}, "tools[0].parameters.type"),
    ({"tools": [{**TOOL, "strict": "yes"}]}, "tools[0].strict"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{**TOOL, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
    ({"tools": [{"type": "custom", "name": "f", "format": {"type": "xml"}}]}, "tools[0].format.type"),
    ({"tools": [{"type": "custom", "name": "f", "format": {**GRAMMAR, "syntax": "lark"}}]}, "tools[0].format.syntax"),
    ({"tools": [{"type": "custom", "name": "f", "format": {**GRAMMAR, "start": "x"}}]}, "tools[0].format.start"),
    ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": []}, "tool_choice"),
    ({"tool_choice": {}}, "tool_choice.type"),
    ({"tool_choice": {"type": "web_search_preview"}, "tools": [TOOL]}, "tool_choice.type"),
    ({"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]}, "tool_choice.name"),
    ({"tool_choice": {"type": "custom", "name": "f"}, "tools": [TOOL]}, "tool_choice.name"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [TOOL]}, "tool_choice.name"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": []}, "tools": [TOOL]}, "tool_choice.mode"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, "tools": [TOOL]},
        "tool_choice.tools[0].type",
    ),
    ({"previous_response_id": 3}, "previous_response_id"),
    ({"previous_response_id": "resp_0"}, "previous_response_id"),
]

INPUTS = [
    (None, "input"),
    ([], "input"),
    ({}, "input"),
    (3, "input"),
    ([USER] * 2049, "input"),
    (["hi"], "input[0]"),
    ([[]], "input[0]"),
    ([{}], "input[0].role"),
    ([{"type": "message"}], "input[0].role"),
    ([{"type": ["message"]}], "input[0].type"),
    ([{"type": "web_search_call", "id": "x"}], "input[0].type"),
    ([{"role": "tool", "content": "x"}], "input[0].role"),
    ([{"role": ["user"], "content": "x"}], "input[0].role"),
    ([{"role": "user"}], "input[0].content"),
    ([{**USER, "name": "bob"}], "input[0].name"),
    (parts(IMAGE), "input[0].content[0].type"),
    (parts({"type": "text", "text": "x"}), "input[0].content[0].type"),
    (parts({"type": "input_file", "file_id": "f"}), "input[0].content[0].type"),
    (parts({"type": "refusal", "refusal": "no"}), "input[0].content[0].type"),
    (parts({"type": "input_text"}), "input[0].content[0].text"),
    (parts({"type": "input_text", "text": "x", "lang": "en"}), "input[0].content[0].lang"),
    (parts("x"), "input[0].content[0]"),
    ([USER, OUTPUT], "input[1].call_id"),
    ([USER, {**CALL, "type": "custom_tool_call", "input": ""}, OUTPUT], "input[1].arguments"),
    ([{**CALL, "arguments": {}}], "input[0].arguments"),
    ([{**CALL, "call_id": None}], "input[0].call_id"),
    ([{**CALL, "namespace": "n"}], "input[0].namespace"),
    ([{**CALL, "async": True}], "input[0].async"),
    ([CALL, {**OUTPUT, "output": None}], "input[1].output"),
    ([CALL, {**OUTPUT, "output": [IMAGE]}], "input[1].output[0].type"),
    ([{"type": "reasoning", "summary": "x"}], "input[0].summary"),
    ([{"type": "reasoning", "summary": [{"type": "reasoning_text", "text": "x"}]}], "input[0].summary[0].type"),
    ([{"type": "reasoning", "content": [{"type": "reasoning_text"}]}], "input[0].content[0].text"),
    ([{"type": "item_reference", "id": "msg_0"}], "input[0].id"),
    ([{"id": "msg_0"}], "input[0].id"),
]


@pytest.fixture(scope="module")
def client():
    service = Service()
    service.open(FakeEngine())
    yield create_app(service, Guard()).test_client()
    service.close()


@pytest.fixture
def refused(client):
    def refused(**fields):
        return error_of(client.post("/v1/responses", json={"input": "hi", **fields}), 400)

    return refused


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_a_field_that_does_not_fit_is_named(refused, fields, param):
    error = refused(**fields)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(("value", "param"), INPUTS)
def test_an_item_that_does_not_fit_is_named(refused, value, param):
    assert refused(input=value)["param"] == param


def test_a_field_misspelt_is_told_by_its_own_name(refused):
    assert refused(max_output_token=5)["message"].endswith("; max_output_tokens is one.")
    assert refused(previous_responses_id="x")["message"].endswith("; previous_response_id is one.")


@pytest.mark.parametrize(
    ("param", "here"),
    [
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("tools[3].function.parameters.properties.function", "tools[3].parameters.properties.function"),
        ("tools", "tools"),
        ("tools[1].parameters", "tools[1].format"),
        ("tool_choice.allowed_tools.tools[0].function.name", "tool_choice.tools[0].name"),
        ("messages[3].content", "input"),
        ("top_k", "top_k"),
    ],
)
def test_errors_of_a_chat_are_told_in_a_responses_names(param, here):
    with pytest.raises(ApiError) as raised, response_names([{"type": "function"}, {"type": "custom"}]):
        raise bad_field(param, "send 'response_format' less, or no response_format and no max_tokens")
    assert raised.value.param == here
    assert raised.value.message == f"{here}: send 'response_format' less, or no text.format and no max_output_tokens."


def test_what_is_too_long_is_told_of_the_input(refused):
    error = refused(input="x" * 5000)
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")


@pytest.mark.parametrize("path", ["resp_0", "resp_0/input_items", "..", "%20", "x" * 4000])
def test_a_response_that_is_not_there_is_a_404(client, path):
    error = error_of(client.get(f"/v1/responses/{path}"), 404)
    assert len(error["message"]) < 300
