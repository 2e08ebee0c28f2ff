"""Formats whose calls are JSON with a name inside, Hermes' and Granite's: whole, cut anywhere, and broken."""

import pytest
from chat_reading import check, read

from moedge.runtime.chat.delta import CallArguments, CallStart, Content
from moedge.runtime.chat.formats import chat_parser

LIGHT = '{"name": "set_light", "arguments": {"room": "Küche", "on": true}}'
TIMER = '{"name": "set_timer", "arguments": {"minutes": 5}}'
LIGHT_READ = ("set_light", '{"room": "Küche", "on": true}')
TIMER_READ = ("set_timer", '{"minutes": 5}')

HERMES = {
    "content": ("Hello", ("", "Hello", [])),
    "call": (f"<tool_call>\n{LIGHT}\n</tool_call>", ("", "", [LIGHT_READ])),
    "all at once": (
        f"<think>\nlamp\n</think>\n\nSure.\n<tool_call>\n{LIGHT}\n</tool_call>\n<tool_call>\n{TIMER}\n</tool_call>\nDone.",
        ("lamp", "Sure.\nDone.", [LIGHT_READ, TIMER_READ]),
    ),
    "call while thinking": (f"<think>so\n<tool_call>{TIMER}</tool_call>", ("so\n", "", [TIMER_READ])),
    "no end of call": (f"<tool_call>{LIGHT}\n<tool_call>{TIMER}", ("", "", [LIGHT_READ, TIMER_READ])),
    "two in one": (f"<tool_call>{LIGHT}\n{TIMER}</tool_call>", ("", "", [LIGHT_READ, TIMER_READ])),
    "an array": (f"<tool_call>[{LIGHT}, {TIMER}]</tool_call>", ("", "", [LIGHT_READ, TIMER_READ])),
    "a brace too many": (f"<tool_call>{TIMER}}}\n</tool_call>", ("", "}", [TIMER_READ])),
    "text behind it": (f"<tool_call>\n{TIMER}\nI did it.", ("", "I did it.", [TIMER_READ])),
    "no arguments": ('<tool_call>{"name": "stop"}</tool_call>', ("", "", [("stop", "{}")])),
    "arguments null": ('<tool_call>{"name": "stop", "arguments": null}</tool_call>', ("", "", [("stop", "{}")])),
    "parameters": ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', ("", "", [("f", '{"a": 1}')])),
    "arguments in a string": (
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
        ("", "", [("f", '{"a": 1}')]),
    ),
    "other order": ('<tool_call>{"arguments": {"a": []}, "name": "f"}</tool_call>', ("", "", [("f", '{"a": []}')])),
    # what is no call is shown as it was written
    "cut off in the name": ('<tool_call>\n{"name": "set_li', ("", '<tool_call>\n{"name": "set_li', [])),
    "cut off in the arguments": (
        '<tool_call>\n{"name": "f", "arguments": {"a": ',
        ("", '<tool_call>\n{"name": "f", "arguments": {"a": ', []),
    ),
    "bad json": ("<tool_call>{oops}</tool_call>!", ("", "<tool_call>{oops}</tool_call>!", [])),
    "nameless": ('<tool_call>{"arguments": {}}</tool_call>', ("", '<tool_call>{"arguments": {}}</tool_call>', [])),
    "name is no text": ('<tool_call>{"name": 1}</tool_call>', ("", '<tool_call>{"name": 1}</tool_call>', [])),
    "unknown key": (
        '<tool_call>{"name": "f", "why": "x"}</tool_call>',
        ("", '<tool_call>{"name": "f", "why": "x"}</tool_call>', []),
    ),
    "arguments by both names": (
        '<tool_call>{"name": "f", "arguments": {"a": 1}, "parameters": {"b": 2}}</tool_call>',
        ("", '<tool_call>{"name": "f", "arguments": {"a": 1}, "parameters": {"b": 2}}</tool_call>', []),
    ),
    "a key twice": (
        '<tool_call>{"name": "f", "name": "g"}</tool_call>',
        ("", '<tool_call>{"name": "f", "name": "g"}</tool_call>', []),
    ),
    "a key of the arguments twice": (
        '<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>',
        ("", "", [("f", '{"a": 2}')]),
    ),
    "not a number": (
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
        ("", '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', []),
    ),
    "half a surrogate pair": (
        '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>',
        ("", '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', []),
    ),
    "prose about the tag": ("Write <tool_call> and json.", ("", "Write <tool_call> and json.", [])),
    "prose in thinking": (
        "<think>I use <tool_call>, or {not}.</think>Hi",
        ("I use <tool_call>, or {not}.", "Hi", []),
    ),
    "bad call in thinking": (
        "<think>a<tool_call>{x}</tool_call>b</think>c",
        ("a<tool_call>{x}</tool_call>b", "c", []),
    ),
    "nested": (
        f"<tool_call><tool_call>{TIMER}</tool_call></tool_call>",
        ("", "<tool_call></tool_call>", [TIMER_READ]),
    ),
    "empty": ("<tool_call></tool_call>", ("", "<tool_call></tool_call>", [])),
    "marker alone": ("a<tool_call>\n", ("", "a<tool_call>\n", [])),
    "end alone": ("a</tool_call>", ("", "a</tool_call>", [])),
    "half a marker": ("a<tool_c", ("", "a<tool_c", [])),
}

GRANITE = {
    "array": (f"<|tool_call|>[{LIGHT}, {TIMER}]", ("", "", [LIGHT_READ, TIMER_READ])),
    "array with blanks": (f"<|tool_call|> [\n {LIGHT}\n]", ("", "", [LIGHT_READ])),
    "spelt as a tag": (f"<tool_call>[{LIGHT}]", ("", "", [LIGHT_READ])),
    "as Hermes": (
        f"<tool_call>\n{LIGHT}\n</tool_call>\n<tool_call>\n{TIMER}\n</tool_call>",
        ("", "", [LIGHT_READ, TIMER_READ]),
    ),
    "thinking and response": (
        "<think>\nIt is 4.\n</think>\n<response>\nFour.\n</response>",
        ("It is 4.", "Four.", []),
    ),
    "response cut off": ("<think>a</think><response>b</respo", ("a", "b</respo", [])),
    "response, then call": (f"<response>Sure.</response>\n<|tool_call|>[{TIMER}]", ("", "Sure.", [TIMER_READ])),
    "call in a response": (f"<response>Sure.<|tool_call|>[{TIMER}]", ("", "Sure.", [TIMER_READ])),
    "bad call in a response": ("<response>a<|tool_call|>[x] b</response>", ("", "a<|tool_call|>[x] b", [])),
    "tags inside content": ("Use <response>.</response>", ("", "Use <response>.</response>", [])),
    "text behind the array": (f"<|tool_call|>[{TIMER}]\nDone.", ("", "Done.", [TIMER_READ])),
    "empty array": ("<|tool_call|>[] Done.", ("", " Done.", [])),
    "cut off": (f"<|tool_call|>[{TIMER}, ", ("", f"<|tool_call|>[{TIMER}, ", [])),
    "bad json": ("<|tool_call|>[{name: 'f'}]", ("", "<|tool_call|>[{name: 'f'}]", [])),
    "one of two is none": (f"<|tool_call|>[{TIMER}, 3]", ("", f"<|tool_call|>[{TIMER}, 3]", [])),
    "nameless": ('<|tool_call|>[{"name": " "}]', ("", '<|tool_call|>[{"name": " "}]', [])),
}

ERNIE = {
    "thinking and response": (
        "<think>\nIt is 4.\n</think>\n\n<response>\nFour.\n\n Or 5.\n</response>\n",
        ("It is 4.", "Four.\n\n Or 5.", []),
    ),
    "no thinking": ("<response>\nFour.\n</response>\n", ("", "Four.", [])),
    "no response": ("<think>\nIt is 4.\n</think>\nFour.", ("It is 4.", "Four.", [])),
    "response cut off": ("<response>\nFour.\n</respo", ("", "Four.\n</respo", [])),
    "empty response": ("<response>\n\n</response>\n", ("", "", [])),
    "call": (f"<think>a\n</think>\n\n<tool_call>\n{TIMER}\n</tool_call>\n", ("a", "", [TIMER_READ])),
    "response, then calls": (
        f"<response>\nSure.\n</response>\n<tool_call>\n{TIMER}\n</tool_call>\n<tool_call>\n{LIGHT}\n</tool_call>",
        ("", "Sure.", [TIMER_READ, LIGHT_READ]),
    ),
    "call in a response": (f"<response>\n<tool_call>{TIMER}</tool_call>", ("", "", [TIMER_READ])),
    "bad call in a response": (
        "<response>\n<tool_call>{x}</tool_call> b\n</response>",
        ("", "<tool_call>{x}</tool_call> b", []),
    ),
    "tags inside content": ("Use <response>.</response>", ("", "Use <response>.</response>", [])),
}


@pytest.mark.parametrize(("text", "expected"), HERMES.values(), ids=HERMES)
def test_hermes(text, expected):
    check(text, expected, "hermes")


@pytest.mark.parametrize(("text", "expected"), GRANITE.values(), ids=GRANITE)
def test_granite(text, expected):
    check(text, expected, "granite")


@pytest.mark.parametrize(("text", "expected"), ERNIE.values(), ids=ERNIE)
def test_ernie(text, expected):
    check(text, expected, "ernie")


def test_an_id_that_the_model_wrote_is_kept():
    text = '[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "a1b2c3d4e"}, {"name": "g", "arguments": {}}]'
    _, _, calls = read([text], "mistral")
    assert calls[0] == ("a1b2c3d4e", "f", "{}")
    assert calls[1][1:] == ("g", "{}")


def test_very_deep_json_is_text():
    text = "<tool_call>" + '{"name": "f", "arguments": ' + "[" * 100_000
    assert read([text], "hermes") == ("", text, [])


def test_a_call_is_delivered_when_its_last_brace_is_there():
    parser = chat_parser("hermes")
    assert parser.push("So <tool_call>") == [Content("So ")]
    assert parser.push(TIMER[:-1]) == []
    start, arguments = parser.push("}")
    assert (start, arguments) == (CallStart(0, start.id, "set_timer"), CallArguments(0, '{"minutes": 5}'))
    assert parser.push("</tool_call>") + parser.finish() == []


def test_a_tag_that_begins_no_call_does_not_hold_text_back():
    parser = chat_parser("hermes")
    assert parser.push("The tag <tool_call>") == [Content("The tag ")]
    assert parser.push(" is") == [Content("<tool_call>"), Content(" is")]
