"""Formats whose arguments must be turned into JSON: GLM's, Qwen3-Coder's, LFM2's. Whole, cut anywhere, and broken."""

import pytest
from chat_reading import check, read_named

GLM_CALL = (
    "<tool_call>set_light\n<arg_key>room</arg_key>\n<arg_value>Küche</arg_value>\n"
    "<arg_key>on</arg_key>\n<arg_value>true</arg_value>\n</tool_call>"
)
LIGHT_READ = ("set_light", '{"room": "Küche", "on": true}')


def glm(value: str) -> str:
    return f"<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"


def unread(text: str) -> tuple:
    return text, ("", text, [])


GLM = {
    "call": (GLM_CALL, ("", "", [LIGHT_READ])),
    "all at once": (
        f"\n<think>lamp</think>\nSure.\n{GLM_CALL}\n{GLM_CALL}\nDone.",
        ("lamp", "Sure.\nDone.", [LIGHT_READ, LIGHT_READ]),
    ),
    "no newlines": (
        "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
        ("", "", [("f", '{"a": 1}')]),
    ),
    "no arguments": ("<tool_call>stop\n</tool_call>", ("", "", [("stop", "{}")])),
    "number": (glm("-1.5"), ("", "", [("f", '{"a": -1.5}')])),
    "object": (glm('{"b": [1, null]}'), ("", "", [("f", '{"a": {"b": [1, null]}}')])),
    "quoted": (glm('"x"'), ("", "", [("f", '{"a": "x"}')])),
    "text of several lines": (glm("a\n b\n"), ("", "", [("f", '{"a": "a\\n b\\n"}')])),
    "date": (glm("2024-06-27"), ("", "", [("f", '{"a": "2024-06-27"}')])),
    "nearly json": (glm("{'b': 1}"), ("", "", [("f", '{"a": "{\'b\': 1}"}')])),
    "not a number": (glm("NaN"), ("", "", [("f", '{"a": "NaN"}')])),
    "empty value": (glm(""), ("", "", [("f", '{"a": ""}')])),
    "huge number": (glm("1e999"), ("", "", [("f", '{"a": "1e999"}')])),
    "no end of call": (
        f"{GLM_CALL.removesuffix('</tool_call>')}{GLM_CALL}",
        ("", "", [LIGHT_READ, LIGHT_READ]),
    ),
    "cut off in the name": unread("<tool_call>set_li ght"),
    "cut off in a value": unread("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>Kü"),
    "name alone": ("<tool_call>f", ("", "", [("f", "{}")])),
    "nameless": unread("<tool_call>\n<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"),
    "value without key": unread("<tool_call>f<arg_value>1</arg_value></tool_call>"),
    "key twice": unread(
        "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>a</arg_key><arg_value>2</arg_value></tool_call>"
    ),
    "text between": unread("<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>well</tool_call>"),
    "nested": (f"<tool_call>{GLM_CALL}", ("", "<tool_call>", [LIGHT_READ])),
    "prose in thinking": (
        f"<think>the tag <tool_call> is</think>Hi{GLM_CALL}",
        ("the tag <tool_call> is", "Hi", [LIGHT_READ]),
    ),
    "prose in thinking, cut off": ("<think>the tag <tool_call> is</think>Hi", ("the tag <tool_call> is", "Hi", [])),
    "empty": unread("<tool_call></tool_call>"),
}

QWEN_CALL = (
    "<tool_call>\n<function=set_light>\n<parameter=room>\nKüche\n</parameter>\n"
    "<parameter=on>\ntrue\n</parameter>\n</function>\n</tool_call>"
)
BARE_CALL = QWEN_CALL.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
QWEN3_CODER = {
    "call": (QWEN_CALL, ("", "", [LIGHT_READ])),
    "all at once": (
        f"<think>\nlamp\n</think>\n\nSure.\n\n{QWEN_CALL}\n{QWEN_CALL}",
        ("lamp", "Sure.\n\n", [LIGHT_READ, LIGHT_READ]),
    ),
    "outer tag forgotten": (QWEN_CALL.removeprefix("<tool_call>\n"), ("", "", [LIGHT_READ])),
    "outer tags forgotten": (f"So.{BARE_CALL}", ("", "So.", [LIGHT_READ])),
    "several without outer tags": (
        f"<think>lamp{BARE_CALL}\n{BARE_CALL}{BARE_CALL}\nDone, </function>.",
        ("lamp", "Done, </function>.", [LIGHT_READ, LIGHT_READ, LIGHT_READ]),
    ),
    "outer opener forgotten": (f"{BARE_CALL}\n</tool_call>\nDone.", ("", "Done.", [LIGHT_READ])),
    "outer end forgotten": (
        f"{QWEN_CALL.removesuffix('</tool_call>')}{QWEN_CALL.removesuffix('</tool_call>')}Done.",
        ("", "Done.", [LIGHT_READ, LIGHT_READ]),
    ),
    "several in one tag": (
        f"<tool_call>\n{BARE_CALL}\n{BARE_CALL}\n</tool_call>Done.",
        ("", "Done.", [LIGHT_READ, LIGHT_READ]),
    ),
    "inner end as a value": (
        "<tool_call><function=f><parameter=code></function></parameter></function></tool_call>",
        ("", "", [("f", '{"code": "</function>"}')]),
    ),
    "bare text between": unread("<function=f>well</function> so"),
    "bare call in prose while thinking": (
        f"<think>a <function=f> b</function> c</think>Hi{BARE_CALL}",
        ("a <function=f> b</function> c", "Hi", [LIGHT_READ]),
    ),
    "several lines": (
        "<tool_call><function=f><parameter=code>\nif x:\n  y\n\n</parameter></function></tool_call>",
        ("", "", [("f", '{"code": "if x:\\n  y\\n"}')]),
    ),
    "no parameters": ("<tool_call>\n<function=f>\n</function>\n</tool_call>", ("", "", [("f", "{}")])),
    "inner end forgotten": ("<tool_call>\n<function=f>\n</tool_call>", ("", "", [("f", "{}")])),
    "cut off": unread("<tool_call>\n<function=f>\n<parameter=a>\nx"),
    "json instead": unread('<tool_call>\n{"name": "f"}\n</tool_call>'),
    "nameless": unread("<tool_call><function=></function></tool_call>"),
    "text between": unread("<tool_call><function=f>well</function></tool_call>"),
    "prose": unread("Write <function=f> in <tool_call>."),
}


def lfm2(calls: str) -> str:
    return f"<|tool_call_start|>{calls}<|tool_call_end|>"


LFM2 = {
    "call": (lfm2('[set_light(room="Küche", on=True)]'), ("", "", [LIGHT_READ])),
    "two and text": (
        "<think>so</think>" + lfm2("[f(a='x'), g()]") + "\nI look.",
        ("so", "I look.", [("f", '{"a": "x"}'), ("g", "{}")]),
    ),
    "literals": (
        lfm2("[f(a=-1.5, b=[1, (2,)], c={'k': None}, d='it\\'s', e=false, g={'t': [true, null]})]"),
        (
            "", "",
            [("f", '{"a": -1.5, "b": [1, [2]], "c": {"k": null}, "d": "it\'s", "e": false, "g": {"t": [true, null]}}')],
        ),
    ),
    "no list": (lfm2("f(a=1)"), ("", "", [("f", '{"a": 1}')])),
    "dots and dashes": (lfm2("[v1.get(), get-the-time()]"), ("", "", [("v1.get", "{}"), ("get-the-time", "{}")])),
    "an argument called from": (lfm2("[f(from='in=1', to=2)]"), ("", "", [("f", '{"from": "in=1", "to": 2}')])),
    "newline in a string": (lfm2("[f(a='x\ny')]"), ("", "", [("f", '{"a": "x\\ny"}')])),
    "backslashes": (lfm2(r"[f(a='\d\\d\n')]"), ("", "", [("f", r'{"a": "\\d\\d\n"}')])),
    "json": (lfm2('[{"name": "f", "arguments": {"a": 1}}]'), ("", "", [("f", '{"a": 1}')])),
    "json, one": (lfm2('{"name": "f", "arguments": {}}'), ("", "", [("f", "{}")])),
    "no end": ("<|tool_call_start|>[f()]", ("", "", [("f", "{}")])),
    "call while thinking": ("<think>so" + lfm2("[f()]"), ("so", "", [("f", "{}")])),
    "nested": ("<|tool_call_start|>" + lfm2("[f()]"), ("", "<|tool_call_start|>", [("f", "{}")])),
    "cut off in the header": unread("<|tool_call_start|>[set_li"),
    "cut off in the arguments": unread('<|tool_call_start|>[f(a="x'),
    "bad syntax": unread(lfm2("[f(a=)]")),
    "without names": unread(lfm2("[f('x')]")),
    "stars": unread(lfm2("[f(**{'a': 1})]")),
    "an expression": unread(lfm2("[f(a=g())]")),
    "a variable": unread(lfm2("[f(a=x)]")),
    "key is no text": unread(lfm2("[f(a={1: 2})]")),
    "key twice": (lfm2("[f(a={'b': 1, 'b': 2})]"), ("", "", [("f", '{"a": {"b": 2}}')])),
    "argument twice": unread(lfm2("[f(a=1, a=2)]")),
    "bytes": unread(lfm2("[f(a=b'x')]")),
    "infinity": unread(lfm2("[f(a=1e999)]")),
    "a comment": unread(lfm2("[f() # call\n]")),
    "nameless": unread(lfm2("[(lambda: 0)()]")),
    "empty": unread(lfm2("")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("chat_format", "text", "expected"),
    [
        pytest.param(chat_format, *case, id=f"{chat_format}: {name}")
        for chat_format, cases in (("glm", GLM), ("qwen3_coder", QWEN3_CODER), ("lfm2", LFM2))
        for name, case in cases.items()
    ],
)
def test_every_split(chat_format, text, expected):
    check(text, expected, chat_format)


@pytest.mark.parametrize("text", ["[" * 100_000, "f(a=" + "(" * 1000, "-" * 100_000 + "1", "f(a=" + "9" * 5000 + ")"])
def test_monstrous_python_is_text(text):
    assert read_named([lfm2(text)], "lfm2") == ("", lfm2(text), [])
