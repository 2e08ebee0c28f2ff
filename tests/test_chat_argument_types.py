"""Arguments of the formats that write texts and other values alike: what the tools' schemas say of them decides."""

import json

import pytest
from edge_client import chat
from fake_engine import FakeEngine

from moedge.runtime.chat.delta import CallArguments, CallStart
from moedge.runtime.chat.formats import chat_parser

STRING, NULLABLE = {"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}
FORMS = {
    "glm": "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{}</arg_value>\n</tool_call>",
    "qwen3_coder": "<tool_call>\n<function=f>\n<parameter=a>\n{}\n</parameter>\n</function>\n</tool_call>",
}


def tools(schema, name="f"):
    return [{"type": "function", "function": {"name": name, "parameters": {"properties": {"a": schema, "b": True}}}}]


def read_value(chat_format, text, offered):
    parser = chat_parser(chat_format, tools=offered)
    start, arguments = parser.push(FORMS[chat_format].format(text)) + parser.finish()
    assert isinstance(start, CallStart)
    assert isinstance(arguments, CallArguments)
    return json.loads(arguments.text)["a"]


@pytest.mark.parametrize("chat_format", FORMS)
@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (STRING, "123", "123"),
        (STRING, '{"b": 1}', '{"b": 1}'),
        (STRING, '"x"', '"x"'),
        (STRING, "null", "null"),
        (STRING, "True", "True"),
        (STRING, " a\n", " a\n"),
        (NULLABLE, "12", "12"),
        (NULLABLE, "null", None),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "integer"]}, "12", 12),
        ({"type": "integer"}, "12", 12),
        ({"type": "object"}, '{"b": 1}', {"b": 1}),
        ({}, "12", 12),
        ({"type": 3, "anyOf": 7}, "12", 12),
        (True, "12", 12),
    ],
)
def test_a_text_stays_a_text_where_the_schema_asks_for_one(chat_format, schema, text, value):
    assert read_value(chat_format, text, tools(schema)) == value


@pytest.mark.parametrize("chat_format", FORMS)
@pytest.mark.parametrize(
    "offered",
    [None, [], [{}], [{"function": {"name": "f"}}], [{"function": {"name": "f", "parameters": 1}}]],
)
def test_without_a_schema_json_is_that_value(chat_format, offered):
    assert read_value(chat_format, "123", offered) == 123
    assert read_value(chat_format, "12a", offered) == "12a"


@pytest.mark.parametrize(("text", "value"), [("True", True), ("False", False), ("None", None), ("true", True)])
def test_qwen_writes_booleans_as_its_template_does(text, value):
    assert read_value("qwen3_coder", text, None) is value
    assert read_value("qwen3_coder", text, tools({"type": ["boolean", "null"]})) is value


def test_a_value_that_can_be_nested_no_deeper_is_a_text():
    read_as = set()
    for depth in range(1, 1100):
        nested = "[" * depth + "]" * depth
        _, arguments = chat_parser("glm").push(FORMS["glm"].format(nested))
        assert arguments.text in (f'{{"a": {nested}}}', f'{{"a": "{nested}"}}')
        read_as.add(arguments.text[6])
    assert read_as == {"[", '"'}


@pytest.mark.parametrize("chat_format", FORMS)
def test_the_endpoint_reads_calls_by_the_tools_of_the_request(serve, chat_format):
    engine = FakeEngine(lambda prompt: [FORMS[chat_format].format("123")], chat_format=chat_format)
    (call,) = chat(serve(engine), tools=tools(STRING)).json["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"a": "123"}
