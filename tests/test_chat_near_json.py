"""Calls that are nearly JSON: what models are known to write, what is repaired, and what stays text."""

import json
import time

import pytest
from chat_reading import check, read, read_named

from moedge.runtime.chat.json_calls import near_value_of, read_calls

# each a call of `f`, as it may be written, and its arguments as JSON
REPAIRED = {
    "raw newline and tab": ('{"name": "f", "arguments": {"a": "one\ntwo\tthree"}}', r'{"a": "one\ntwo\tthree"}'),
    "raw carriage return": ('{"name": "f", "arguments": {"a": "one\r\ntwo"}}', r'{"a": "one\r\ntwo"}'),
    "raw NUL": ('{"name": "f", "arguments": {"a": "\0"}}', r'{"a": "\u0000"}'),
    "raw escape character": ('{"name": "f", "arguments": {"a": "\x1b[0m"}}', r'{"a": "\u001b[0m"}'),
    "raw newline in a key": ('{"name": "f", "arguments": {"a\nb": 1}}', r'{"a\nb": 1}'),
    "regular expression": (r'{"name": "f", "arguments": {"a": "\d+\.\w"}}', r'{"a": "\\d+\\.\\w"}'),
    "a key twice, within": (r'{"name": "f", "arguments": {"a": "\d", "a": 1}}', '{"a": 1}'),
    "escaped apostrophe": (r'{"name": "f", "arguments": {"a": "it\'s"}}', '{"a": "it\'s"}'),
    "shell line": ('{"name": "f", "arguments": {"a": "ls \\\n -l"}}', r'{"a": "ls \\\n -l"}'),
    "path": (r'{"name": "f", "arguments": {"a": "C:\Programs\x\q"}}', r'{"a": "C:\\Programs\\x\\q"}'),
    "half an escape": (r'{"name": "f", "arguments": {"a": "\u12"}}', r'{"a": "\\u12"}'),
    "digits behind a backslash": (r'{"name": "f", "arguments": {"a": "\1\0"}}', r'{"a": "\\1\\0"}'),
    "good escapes beside a bad one": (
        r'{"name": "f", "arguments": {"a": "\d\"\\\/\n\u00e9\ud83d\ude00"}}',
        r'{"a": "\\d\"\\/\né😀"}',
    ),
    "invalid escape in a key": (r'{"name": "f", "arguments": {"\d": 1}}', r'{"\\d": 1}'),
    "comma too many": ('{"name": "f", "arguments": {"a": [1, 2,],},}', '{"a": [1, 2]}'),
    "as Python prints it": ("{'arguments': {'a': True, 'b': None}, 'name': 'f'}", '{"a": true, "b": null}'),
    "both kinds of quotes": (
        """{"name": "f", "arguments": {"a": 'x "y"', 'b': "it's"}}""",
        '{"a": "x \\"y\\"", "b": "it\'s"}',
    ),
    "leading zero": ('{"name": "f", "arguments": {"a": 07, "b": -0.5, "c": +1e3}}', '{"a": 7, "b": -0.5, "c": 1000.0}'),
    "string in a string": ('{"name": "f", "arguments": "{\\"a\\": \\"x\ny\\"}"}', r'{"a": "x\ny"}'),
    "Python in a string": ('{"name": "f", "arguments": "{\'a\': True}"}', '{"a": true}'),
    "a text instead": ('{"name": "f", "arguments": "hello"}', '"hello"'),
    "nothing in a string": ('{"name": "f", "arguments": ""}', "{}"),
    "as in OpenAI's messages": ('{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', '{"a": 1}'),
    "wrapped, arguments as text": (
        r'{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}',
        '{"a": 1}',
    ),
    "wrapped alone": ('{"function": {"name": "f", "parameters": {"a": 1}}}', '{"a": 1}'),
}  # fmt: skip
NO_CALL = {
    "no quotes": '{name: "f"}',
    "brace missing": '{"name": "f", "arguments": {"a": 1}',
    "two braces missing": '{"name": "f", "arguments": {"a": "x"',
    "comma missing": '{"name": "f" "arguments": {}}',
    "only a comma": '{"name": "f", "arguments": {,}}',
    "two commas": '{"name": "f",, "arguments": {}}',
    "quote missing": '{"name": "f", "arguments": {"a": "x}}',
    "quotes within quotes": """{'name': 'f', 'arguments': {'a': 'it's'}}""",
    "a key twice": """{'name': 'f', 'name': 'g'}""",
    "unknown key": r'{"name": "f", "why": "\d"}',
    "unknown key beside a function": '{"function": {"name": "f"}, "why": 1}',
    "unknown type": '{"type": "tool", "function": {"name": "f"}}',
    "not a number": "{'name': 'f', 'arguments': {'a': NaN}}",
    "infinity": "{'name': 'f', 'arguments': {'a': Infinity}}",
    "too large": "{'name': 'f', 'arguments': {'a': 1e999}}",
    "half a surrogate pair": r'{"name": "f", "arguments": {"a": "\d\ud800"}}',
    "key is no text": "{'name': 'f', 'arguments': {1: 2}}",
    "a set": "{'name': 'f', 'arguments': {'a': {1, 2}}}",
    "a tuple": "{'name': 'f', 'arguments': {'a': (1, 2)}}",
    "a comment": '{"name": "f", /* so */ "arguments": {}}',
    "a word": '{"name": "f", "arguments": {"a": yes}}',
    "deep": '{"name": "f", "arguments": {"a": "\\d", "b": ' + "[" * 70 + "]" * 70 + "}}",
}


@pytest.mark.parametrize(("call", "arguments"), REPAIRED.values(), ids=REPAIRED)
def test_what_is_nearly_json_is_understood_and_comes_out_as_json(call, arguments):
    json.loads(arguments)
    check(f"So.<tool_call>\n{call}\n</tool_call>", ("", "So.", [("f", arguments)]), "hermes")


@pytest.mark.parametrize("call", NO_CALL.values(), ids=NO_CALL)
def test_what_could_be_understood_in_two_ways_stays_text(call):
    text = f"<tool_call>\n{call}\n</tool_call>"
    check(text, ("", text, []), "hermes")


@pytest.mark.parametrize(
    ("chat_format", "form"),
    [
        ("hermes", "<tool_call>\n{}\n</tool_call>"),
        ("ernie", "<tool_call>\n{}\n</tool_call>\n"),
        ("granite", "<|tool_call|>[{}]"),
        ("granite", "<tool_call>{}</tool_call>"),
        ("mistral", "[TOOL_CALLS] [{}]"),
        ("mistral", "[TOOL_CALLS]{}"),
        ("lfm2", "<|tool_call_start|>[{}]<|tool_call_end|>"),
        ("cohere", "<|START_ACTION|>[{}]<|END_ACTION|>"),
    ],
)
def test_every_format_with_json_in_it_reads_it_so(chat_format, form):
    call = '{"name": "f", "arguments": {"a": "\\d\n\'", },}'
    check(form.format(call), ("", "", [("f", '{"a": "\\\\d\\n\'"}')]), chat_format)


def test_calls_one_after_the_other_may_be_well_and_badly_written():
    calls = ['{"name": "f"}', "{'name': 'g'}", '{"name": "h"}', '[{"name": "i",}]']
    read = ("", "done", [(name, "{}") for name in "fghi"])
    assert read_named(["<tool_call>" + "\n".join(calls) + "\ndone</tool_call>"], "hermes") == read


def test_the_id_beside_a_wrapped_function_is_the_calls():
    text = '<tool_call>{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}</tool_call>'
    assert read([text], "hermes") == ("", "", [("c1", "f", "{}")])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[{'a': 'b'}, {\"a\": \"c\"}]", [{"a": "b"}, {"a": "c"}]),
        (" 007 ", 7),
        ("None", None),
        ("'x' y", "'x' y"),
        ("{'a'}", "{'a'}"),
        ("", ""),
    ],
)
def test_a_value_that_is_nearly_json_is_that_value(text, value):
    assert near_value_of(text) == value


@pytest.mark.parametrize(
    "unit", [r"\d", "\\", "\\u", "1,", "'a',", "{'a':", "[", "'", '"', "\n", "}", "{'name':'f'}", r'{"name":"\d"}', " "]
)
@pytest.mark.parametrize("start", ["", '{"name":"f","arguments":{"a":"', "{'name':'f','arguments':{'a':["])
def test_200_kb_that_are_hard_to_read_are_read_in_time(unit, start):
    began = time.process_time()
    read_calls(start + unit * (200_000 // len(unit)))
    assert time.process_time() - began < 5  # reading them anew at every quote would take minutes
