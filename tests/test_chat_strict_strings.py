"""JSON that is delivered while it is written: its strings come out strict, whatever the pieces it comes in."""

import json
import random

import pytest
from chat_reading import read

from moedge.runtime.chat.json_calls import near_value_of
from moedge.runtime.chat.strict_strings import StrictStrings

TEXTS = {
    "strict": ('{"a": "x\\n\\"\\u00e9\\\\", "b": [1, null]}', '{"a": "x\\n\\"\\u00e9\\\\", "b": [1, null]}'),
    "control characters": ('{"a": "x\ny\r\tz\0\x1b\x7f"}', '{"a": "x\\ny\\r\\tz\\u0000\\u001b\x7f"}'),
    "layout": ('{\n\t"a":\r\n 1\n}', '{\n\t"a":\r\n 1\n}'),
    "a key": ('{"a\nb": 1}', '{"a\\nb": 1}'),
    "a regular expression": (r'{"a": "\d+\.\s\\w"}', r'{"a": "\\d+\\.\\s\\w"}'),
    "an apostrophe": (r'{"a": "it\'s \\\'"}', r'{"a": "it' + "'" + r"s \\" + "'" + '"}'),
    "half an escape": (r'{"a": "\u12", "b": "\uabg", "c": "\u"}', r'{"a": "\\u12", "b": "\\uabg", "c": "\\u"}'),
    "a backslash before a newline": ('{"a": "x \\\n y"}', '{"a": "x \\\\\\n y"}'),
    "many backslashes": (r'{"a": "\\\\\d"}', r'{"a": "\\\\\\d"}'),
    "cut off in an escape": ('{"a": "x\\', '{"a": "x\\'),
    "cut off in a string": ('{"a": "x\n', '{"a": "x\\n'),
    "broken in another way": ("{'a': \"\n\", b: NaN,}", "{'a': \"\\n\", b: NaN,}"),
    "no JSON": (' <a b="\n\\d">', ' <a b="\n\\d">'),
    "a list behind blanks": (' \n["\n"]', ' \n["\\n"]'),
    "nothing": ("", ""),
}


def strict(pieces):
    strings = StrictStrings()
    return "".join([*map(strings.push, pieces), strings.end()])


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_strings_come_out_strict_in_every_cut(text, expected):
    assert strict([text]) == strict(text) == expected
    for cut in range(len(text)):
        assert strict([text[:cut], text[cut:]]) == expected


def test_what_is_repaired_on_the_way_means_what_is_repaired_as_a_whole():
    chance = random.Random(8)
    for _ in range(2000):
        inner = "".join(chance.choices(["\\", "\\\\", "\n", "\0", "u", "00e9", "d", "/", "'", "é", " ", '\\"'], k=9))
        text = f'{{"a": "{inner}"}}'
        if isinstance(near_value_of(text), dict):  # the quote at the end was not escaped
            assert json.loads(strict(text)) == near_value_of(text)


def test_nothing_is_held_back_but_an_escape_that_may_go_on():
    strings = StrictStrings()
    assert strings.push('{"a": "x\\u00') == '{"a": "x'
    assert strings.push("e9\\") == "\\u00e9"
    assert strings.push("d") == "\\\\d"
    assert strings.end() == ""


CALL = '{"a": "x\n\\d\'"}'
DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
FORMATS = {
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"
    "<|tool_call_end|><|tool_calls_section_end|>",
    "mistral": "[TOOL_CALLS]f[ARGS]{}",
    "gpt_oss": "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
    "deepseek_v3": DEEPSEEK.format("function<｜tool▁sep｜>f\n```json\n{}\n```"),
    "deepseek_v3_1": DEEPSEEK.format("f<｜tool▁sep｜>{}"),
}


@pytest.mark.parametrize("chat_format", FORMATS)
def test_every_format_that_delivers_arguments_as_written_delivers_strict_strings(chat_format):
    text = FORMATS[chat_format].format(CALL)
    for pieces in ([text], text, *([text[:cut], text[cut:]] for cut in range(len(text)))):
        reasoning, content, ((_, name, arguments),) = read(pieces, chat_format)
        assert (reasoning, content, name, arguments) == ("", "", "f", '{"a": "x\\n\\\\d\'"}')


def test_arguments_that_end_in_half_an_escape_are_delivered_whole():
    text = FORMATS["mistral"].format('{"a": "x\\')
    assert read([text], "mistral")[2][0][2] == '{"a": "x\\'


def test_arguments_that_are_no_json_are_delivered_as_written():
    text = FORMATS["gpt_oss"].format('<a b="\n\\d"/>')
    assert read(text, "gpt_oss")[2][0][2] == '<a b="\n\\d"/>'
