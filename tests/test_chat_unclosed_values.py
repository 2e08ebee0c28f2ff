"""Arguments in tags whose ends the model forgot, and tags that are text of a value: Qwen3-Coder's and GLM's."""

import time

import pytest
from chat_reading import check, read_named

from moedge.runtime.chat.formats.glm import glm_calls
from moedge.runtime.chat.formats.qwen3_coder import qwen3_coder_calls

OSLO = [("trip", '{"city": "Oslo", "days": 3}')]

# behind `<tool_call>`, with its end where it was written
QWEN_UNCLOSED = {
    "first": "\n<function=trip>\n<parameter=city>\nOslo\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "last": "\n<function=trip>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</function>\n</tool_call>",
    "all": "\n<function=trip>\n<parameter=city>\nOslo\n<parameter=days>\n3\n</function>\n</tool_call>",
    "all, values beside the tags": "<function=trip>\n<parameter=city>Oslo\n<parameter=days>3\n</function></tool_call>",
    "all, on one line": "<function=trip><parameter=city>Oslo<parameter=days>3</function></tool_call>",
    "indented": "<function=trip>\n <parameter=city>\nOslo\n  <parameter=days>\n3\n  </function>\n</tool_call>",
    "function too": "<function=trip>\n<parameter=city>\nOslo\n<parameter=days>\n3\n</tool_call>",
    "function too, not value": "<function=trip><parameter=city>Oslo\n<parameter=days>3</parameter>\n</tool_call>",
}
CITY, DAYS = "<arg_key>city</arg_key>\n<arg_value>Oslo", "<arg_key>days</arg_key>\n<arg_value>3"
GLM_UNCLOSED = {
    "first": f"trip\n{CITY}\n{DAYS}</arg_value>\n</tool_call>",
    "last": f"trip\n{CITY}</arg_value>\n{DAYS}\n</tool_call>",
    "all": f"trip\n{CITY}\n{DAYS}\n</tool_call>",
    "on one line": "trip<arg_key>city</arg_key><arg_value>Oslo<arg_key>days</arg_key><arg_value>3</tool_call>",
    "keys": "trip\n<arg_key>city\n<arg_value>Oslo</arg_value>\n<arg_key>days<arg_value>3</arg_value>\n</tool_call>",
    "keys and values": "trip\n<arg_key>city\n<arg_value>Oslo\n<arg_key>days\n<arg_value>3\n</tool_call>",
}
CUT_OFF = {
    "qwen3_coder": [
        "<tool_call>\n<function=trip>\n<parameter=city>\nOs",
        "<tool_call>\n<function=trip>\n<parameter=city>\nOslo\n",
        "<tool_call>\n<function=trip>\n<parameter=city>\nOslo\n<parameter=days>\n3",
        "<tool_call>\n<function=trip>\n<parameter=city>\nOslo\n</parameter>\n<parameter=da",
    ],
    "glm": [
        f"<tool_call>trip\n{CITY}\n",
        f"<tool_call>trip\n{CITY}\n{DAYS}",
        f"<tool_call>trip\n{CITY}</arg_value>\n<arg_key>da",
    ],
}
# what stands in a value that is closed, whole bodies of calls
QWEN_TEXT = {
    "an end of a function": "x = '</function>'",
    "ends of everything": "</function>\n</tool_call>\n<tool_call>\n<function=g>",
    "a key within a line": "write <parameter=a> or\n so <parameter=b>",
    "several lines": "if x:\n  y\n",
}
GLM_TEXT = {
    "an end of a call": "x = '</tool_call>'",
    "ends and begins": "</tool_call>\n<tool_call>f",
    "a key alone": "<arg_key>a</arg_key> is a key",
    "lines": "\na\n b\n",
}


@pytest.mark.parametrize("body", QWEN_UNCLOSED.values(), ids=QWEN_UNCLOSED)
def test_a_parameter_ends_where_something_else_begins(body):
    check(f"So.\n<tool_call>{body}Done.", ("", "So.\nDone.", OSLO), "qwen3_coder")


def test_so_does_one_of_a_call_without_its_outer_tags():
    check("<function=trip><parameter=city>Oslo\n<parameter=days>3</function>Done.", ("", "Done.", OSLO), "qwen3_coder")


@pytest.mark.parametrize("body", GLM_UNCLOSED.values(), ids=GLM_UNCLOSED)
def test_an_arg_value_ends_where_something_else_begins(body):
    check(f"So.\n<tool_call>{body}Done.", ("", "So.\nDone.", OSLO), "glm")


@pytest.mark.parametrize(("chat_format", "text"), [(name, text) for name, texts in CUT_OFF.items() for text in texts])
def test_a_value_that_was_cut_off_makes_no_call(chat_format, text):
    check(text, ("", text, []), chat_format)


@pytest.mark.parametrize("value", QWEN_TEXT.values(), ids=QWEN_TEXT)
def test_tags_within_a_closed_parameter_are_its_text(value):
    (call,), rest = qwen3_coder_calls(
        f"\n<function=f>\n<parameter=a>\n{value}\n</parameter>\n<parameter=b>\n1\n</parameter>\n</function>\n"
    )
    assert (call.name, call.arguments, rest) == ("f", {"a": value, "b": "1"}, "")


@pytest.mark.parametrize("value", GLM_TEXT.values(), ids=GLM_TEXT)
def test_tags_within_a_closed_arg_value_are_its_text(value):
    (call,), rest = glm_calls(
        f"f\n<arg_key>a</arg_key>\n<arg_value>{value}</arg_value>\n<arg_key>b<arg_value>1</arg_value>"
    )
    assert (call.name, call.arguments, rest) == ("f", {"a": value, "b": "1"}, "")


def test_a_call_may_end_where_the_next_function_begins():
    text = "<tool_call><function=f>\n<parameter=a>\n1\n<function=g>\n<parameter=b>\n2\n</parameter>\n</tool_call>"
    assert read_named([text], "qwen3_coder") == ("", "", [("f", '{"a": 1}'), ("g", '{"b": 2}')])


def test_the_tag_of_the_next_call_ends_a_value_too():
    (call,), rest = glm_calls("f<arg_key>a</arg_key><arg_value>1\n<tool_call>")
    assert (call.name, call.arguments, rest) == ("f", {"a": "1"}, "<tool_call>")
    (call,), rest = qwen3_coder_calls("<function=f>\n<parameter=a>\n1\n<tool_call>")
    assert (call.name, call.arguments, rest) == ("f", {"a": "1"}, "<tool_call>")


def test_the_same_argument_twice_is_no_call_though_it_was_left_open():
    text = "<tool_call><function=f><parameter=a>1<parameter=a>2</parameter></function></tool_call>"
    check(text, ("", text, []), "qwen3_coder")


@pytest.mark.parametrize(
    ("body", "start", "unit"),
    [
        (qwen3_coder_calls, "<function=f>", "<parameter=a"),
        (qwen3_coder_calls, "<function=f><parameter=a>", "</function>"),
        (qwen3_coder_calls, "<function=f><parameter=a>\nx", " <parameter=b>"),
        (qwen3_coder_calls, "", "<function=f>"),
        (qwen3_coder_calls, "", "<function=f><parameter=a>1</function>"),
        (glm_calls, "f<arg_key>", " "),
        (glm_calls, "f<arg_key>a</arg_key>", " "),
        (glm_calls, "f", "<arg_key>"),
        (glm_calls, "f<arg_key>a</arg_key><arg_value>", "</tool_call>"),
        (glm_calls, "f<arg_key>a</arg_key><arg_value>", "<arg_key>b</arg_key>"),
    ],
)
def test_400_kb_of_tags_are_read_in_time(body, start, unit):
    began = time.process_time()
    body(start + unit * (400_000 // len(unit)))
    assert time.process_time() - began < 2  # looking for each end anew would take minutes


def test_a_name_that_utf_8_cannot_hold_is_no_call():
    assert glm_calls("f\ud800<arg_key>a</arg_key><arg_value>1</arg_value>") is None
    assert qwen3_coder_calls("<function=f\ud800></function>") is None
