"""Kimi K2's answers: whole, cut anywhere, and broken; the plain format and unknown ones."""

import json

import pytest
from chat_reading import read as read_format
from hypothesis import given
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.delta import CallArguments, CallStart, Content
from moedge.runtime.chat.formats import chat_parser

SECTION, END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"


def call(identifier: str, arguments: str) -> str:
    return f"{CALL}{identifier}{ARGUMENTS}{arguments}{END}"


def read(pieces, chat_format="kimi_k2"):
    return read_format(pieces, chat_format)


def unread(text: str) -> tuple:
    return text, ("", text, [])


LIGHT_READ = ("functions.set_light:0", "set_light", '{"room": "kitchen", "on": true}')
LIGHT = call("functions.set_light:0", '{"room": "kitchen", "on": true}')
TIMER = call("functions.set_timer:1", '{"minutes": 5}')
CASES = {
    "content": ("Hello", ("", "Hello", [])),
    "empty": ("", ("", "", [])),
    "blank": ("  \n", ("", "  \n", [])),
    "thinking": ("<think>It is 4.</think>Four.", ("It is 4.", "Four.", [])),
    "thinking after blanks": ("\n <think>a</think> b", ("a", " b", [])),
    "no thoughts": ("<think></think>Hi", ("", "Hi", [])),
    "thinking cut off": ("<think>It is", ("It is", "", [])),
    "tags inside content": ("Use <think> and </think>.", ("", "Use <think> and </think>.", [])),
    "half a tag": ("<thin", ("", "<thin", [])),
    "call": (
        f"{SECTION}{LIGHT}{END_SECTION}",
        ("", "", [LIGHT_READ]),
    ),
    "all at once": (
        f"<think>lamp</think>Sure. {SECTION}\n{LIGHT}\n{TIMER}\n{END_SECTION} Done.",
        (
            "lamp",
            "Sure.  Done.",
            [
                LIGHT_READ,
                ("functions.set_timer:1", "set_timer", '{"minutes": 5}'),
            ],
        ),
    ),
    "call while thinking": (
        f"<think>so{SECTION}{TIMER}",
        ("so", "", [("functions.set_timer:1", "set_timer", '{"minutes": 5}')]),
    ),
    "arguments cut off": (
        f'{SECTION}{CALL}functions.a:0{ARGUMENTS}{{"x": ',
        ("", "", [("functions.a:0", "a", '{"x": ')]),
    ),
    "arguments end in half a marker": (
        f"{SECTION}{CALL}functions.a:0{ARGUMENTS}{{}}<|tool",
        ("", "<|tool", [("functions.a:0", "a", "{}")]),
    ),
    "header cut off": unread(f"{SECTION}{CALL}functions.set_li"),
    "no arguments": (
        f"{SECTION}{CALL}functions.stop:0{END}{END_SECTION}",
        ("", "", [("functions.stop:0", "stop", "{}")]),
    ),
    "bad json": (f"{SECTION}{call('functions.a:0', '{oops')}", ("", "", [("functions.a:0", "a", "{oops")])),
    "no end of call": (
        f"{SECTION}{CALL}functions.a:0{ARGUMENTS}{{}}{CALL}functions.b:1{ARGUMENTS}[]{END_SECTION}",
        ("", "", [("functions.a:0", "a", "{}"), ("functions.b:1", "b", "[]")]),
    ),
    "bare name": (f"{SECTION}{call('get_time', '{}')}", ("", "", [("get_time", "get_time", "{}")])),
    "dots and digits": (
        f"{SECTION}{call('functions.v1.get:12', '{}')}",
        ("", "", [("functions.v1.get:12", "v1.get", "{}")]),
    ),
    "a colon before no index": (
        f"{SECTION}{call('functions.ns:tool', '{}')}",
        ("", "", [("functions.ns:tool", "ns:tool", "{}")]),
    ),
    "nameless": unread(f"{SECTION}{call(' ', '{}')}{END_SECTION}!"),
    "prose in a section": unread(f"{SECTION} well {END_SECTION}"),
    "prose behind a call": (
        f"{SECTION}{LIGHT} well {CALL} so {END_SECTION}.",
        ("", f" well {CALL} so .", [LIGHT_READ]),
    ),
    "a brace too many": (f"{SECTION}{call('f', '{}}')}{END_SECTION}b", ("", "}b", [("f", "f", "{}")])),
    "empty section": (f"a{SECTION}\n{END_SECTION}b", ("", "ab", [])),
    "two sections": (
        f"a{SECTION}{call('functions.x:0', '1')}{END_SECTION}b{SECTION}{call('functions.y:1', '2')}{END_SECTION}c",
        ("", "abc", [("functions.x:0", "x", "1"), ("functions.y:1", "y", "2")]),
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_whole_text_and_letter_by_letter(text, expected):
    assert read([text]) == expected
    assert read(list(text)) == expected


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_every_split_in_two(text, expected):
    for cut in range(len(text) + 1):
        assert read([text[:cut], text[cut:]]) == expected, cut


MARKERS = [
    "<think>",
    "</think>",
    SECTION,
    END_SECTION,
    CALL,
    ARGUMENTS,
    END,
    "<|tool_call",
    "functions.f:0",
    " ",
    "{",
    "x",
]


@given(st.lists(st.sampled_from(MARKERS), max_size=12), st.data())
def test_no_text_breaks_it_and_cuts_do_not_matter(parts, data):
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read([text])
    assert read(pieces) == whole
    reasoning, content, calls = whole
    # `{}` is never written here: it stands for no arguments
    written = "".join(identifier + arguments.replace("{}", "") for identifier, _, arguments in calls)
    delivered = reasoning + content + written
    assert delivered.count("x") == text.count("x")
    assert delivered.count("{") == text.count("{")


def test_content_streams_at_once_and_only_a_possible_marker_waits():
    parser = chat_parser("kimi_k2")
    assert parser.push("Hello") == [Content("Hello")]
    assert parser.push(" a <") == [Content(" a ")]
    assert parser.push(" b") == [Content("< b")]


def test_arguments_stream_while_they_are_written():
    parser = chat_parser("kimi_k2")
    assert parser.push(f"{SECTION}{CALL}functions.a:0{ARGUMENTS}") == [CallStart(0, "functions.a:0", "a")]
    assert parser.push('{"x"') == [CallArguments(0, '{"x"')]
    assert json.loads("".join(d.text for d in [CallArguments(0, '{"x"'), *parser.push(": 1}" + END)])) == {"x": 1}


def test_plain_is_all_content():
    text = f"<think>a</think>{SECTION}"
    assert read(list(text), "plain") == ("", text, [])


def test_unknown_format_is_an_error():
    with pytest.raises(MoedgeError, match="klingon"):
        chat_parser("klingon")
