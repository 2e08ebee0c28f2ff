"""Calls are read where they are possible: of tools that were declared, in requests that have some."""

import pytest
from chat_reading import GENERATED, thinking_tags_of
from edge_client import TOOLS, chat, pieces
from fake_engine import FakeEngine
from test_chat_markers import CALLS, FORMATS, call

from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.formats import chat_parser


def tool(name, *properties):
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def message(parts, chat_format, tools, calls=True):
    parser = chat_parser(chat_format, "", tools, calls)
    deltas = [delta for part in parts for delta in parser.push(part)] + parser.finish()
    said = assistant_message(deltas)
    return said["content"], [found["function"]["name"] for found in said.get("tool_calls", [])]


@pytest.mark.parametrize("chat_format", FORMATS)
@pytest.mark.parametrize(("tools", "calls"), [([tool("load")], True), ([tool("save")], False), ([], False)])
def test_what_may_not_be_called_is_text_as_it_was_written(chat_format, tools, calls):
    # a gpt-oss answer's last end of message is none of its text
    text = f"Like\n{call(chat_format, 'a')}\nso."
    assert message([text], chat_format, tools, calls) == (text, [])
    assert message(list(text), chat_format, tools, calls) == (text, [])
    assert message([text], chat_format, [tool("save")])[1] == ["save"]


@pytest.mark.parametrize("chat_format", FORMATS)
def test_thinking_is_read_without_calls(chat_format):
    begin, end = thinking_tags_of(chat_format)
    parser = chat_parser(chat_format, calls=False)
    said = assistant_message(parser.push(f"{begin}hm{end}Hi") + parser.finish())
    assert said == {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}


def test_one_call_of_two_that_was_not_declared_is_text():
    text = f"{call('hermes', 'a')}\n{call('hermes', 'b').replace('save', 'load')}"
    content, names = message([text], "hermes", [tool("save")])
    assert names == ["save"]
    assert content == call("hermes", "b").replace("save", "load")


def test_a_list_with_a_call_that_was_not_declared_is_text():
    text = '<|tool_call|>[{"name": "save"}, {"name": "load"}]'
    assert message([text], "granite", [tool("save")]) == (text, [])


def test_an_example_within_an_argument_of_what_may_not_be_called_is_no_call():
    inner = call("qwen3_coder", "x")
    text = CALLS["qwen3_coder"].replace("save", "write").replace("TEXT", inner.replace("</parameter>", ""))
    assert message([text], "qwen3_coder", [tool("save", "text")]) == (text, [])


def counted(number, arguments):
    return f"<|tool_call_begin|>{number}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


WEATHER, FLIGHT = tool("weather", "city", "unit"), tool("flight", "city", "day")


@pytest.mark.parametrize("number", ["0", "12", "functions.0:0"])
@pytest.mark.parametrize(
    ("tools", "arguments", "names"),
    [
        ([WEATHER], '{"city": "Oslo"}', ["weather"]),
        ([WEATHER], '{"oops', ["weather"]),
        ([WEATHER, FLIGHT], '{"city": "Oslo", "day": 1}', ["flight"]),
        ([WEATHER, FLIGHT], '{"city": "Oslo"}', []),
        ([WEATHER, FLIGHT], "{}", []),
        ([WEATHER, FLIGHT], '{"city": "Oslo"', []),
        ([tool("0"), FLIGHT], "{}", ["0"] ),
    ],
)  # fmt: skip
def test_a_number_for_a_name(number, tools, arguments, names):
    if names == ["0"] and number == "12":
        names = []
    text = counted(number, arguments)
    content = "" if names else text
    assert message([text], "kimi_k2", tools) == (content, names)
    assert message(list(text), "kimi_k2", tools) == (content, names)


def test_a_number_is_a_name_in_no_other_format():
    text = '<tool_call>{"name": "0"}</tool_call>'
    assert message([text], "hermes", [WEATHER]) == (text, [])


EXAMPLE = 'Write it so:\n<tool_call>\n{"name": "set_light", "arguments": {"x": 1}}\n</tool_call>\nand close the tag.'


@pytest.mark.parametrize("chat_format", ["hermes", "ernie"])
@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}])
def test_the_endpoint_reads_no_call_where_none_is_possible(serve, chat_format, fields):
    response = chat(serve(FakeEngine(lambda prompt: pieces(EXAMPLE), chat_format=chat_format)), **fields)
    (choice,) = response.json["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": EXAMPLE}


def test_the_endpoint_reads_calls_of_declared_tools_alone(serve):
    def answers(text):
        response = chat(serve(FakeEngine(lambda prompt: pieces(text), chat_format="hermes")), tools=TOOLS)
        return response.json["choices"][0]

    assert answers(EXAMPLE)["finish_reason"] == "tool_calls"
    (found,) = answers(EXAMPLE)["message"]["tool_calls"]
    assert GENERATED.fullmatch(found["id"])
    unknown = EXAMPLE.replace("set_light", "my_tool")
    assert answers(unknown)["message"] == {"role": "assistant", "content": unknown}
    assert answers(unknown)["finish_reason"] == "stop"
