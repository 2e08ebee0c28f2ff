"""A marker commits to nothing until what follows confirms it: prose, strings, near misses, text behind calls."""

import pytest
from chat_reading import check, read, read_named

from moedge.runtime.chat.delta import Content
from moedge.runtime.chat.formats import GRAMMARS, chat_parser

K_CALL, K_ARGS, K_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
K_SECTION, K_END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
D_BEGIN, D_CALL, D_SEP = "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
D_END_CALL, D_END = "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"
HARMONY = "<|channel|>commentary to=functions.save <|constrain|>json<|message|>"

# a call of `save` with one argument in each format; ARGUMENTS is a JSON object, TEXT that argument alone
CALLS = {
    "cohere": '<|START_ACTION|>[\n    {"tool_name": "save", "parameters": ARGUMENTS}\n]<|END_ACTION|>',
    "deepseek_v3": f"{D_BEGIN}{D_CALL}function{D_SEP}save\n```json\nARGUMENTS\n```{D_END_CALL}{D_END}",
    "deepseek_v3_1": f"{D_BEGIN}{D_CALL}save{D_SEP}ARGUMENTS{D_END_CALL}{D_END}",
    "ernie": '<tool_call>\n{"name": "save", "arguments": ARGUMENTS}\n</tool_call>',
    "gemma4": '<|tool_call>call:save{text:<|"|>TEXT<|"|>}<tool_call|>',
    "glm": "<tool_call>save\n<arg_key>text</arg_key>\n<arg_value>TEXT</arg_value>\n</tool_call>",
    "gpt_oss": f"{HARMONY}ARGUMENTS<|call|>",
    "granite": '<|tool_call|>[{"name": "save", "arguments": ARGUMENTS}]',
    "hermes": '<tool_call>\n{"name": "save", "arguments": ARGUMENTS}\n</tool_call>',
    "kimi_k2": f"{K_SECTION}{K_CALL}functions.save:0{K_ARGS}ARGUMENTS{K_END}{K_END_SECTION}",
    "lfm2": '<|tool_call_start|>[save(text="TEXT")]<|tool_call_end|>',
    "mistral": "[TOOL_CALLS]save[ARGS]ARGUMENTS",
    "qwen3_coder": "<tool_call>\n<function=save>\n<parameter=text>\nTEXT\n</parameter>\n</function>\n</tool_call>",
}
FORMATS = sorted(CALLS)


def call(chat_format: str, text: str) -> str:
    form = CALLS[chat_format]
    if "ARGUMENTS" in form:
        return form.replace("ARGUMENTS", f'{{"text": "{text}"}}')
    return form.replace("TEXT", text)


def markers(chat_format: str) -> list[str]:
    return sorted({mark for steps in GRAMMARS[chat_format].steps.values() for mark in steps if len(mark.strip()) > 2})


def without_ids(answer):
    reasoning, content, calls = answer
    return reasoning, content, [found[1:] for found in calls]


def test_every_format_with_calls_is_here():
    assert sorted(name for name, grammar in GRAMMARS.items() if grammar.calls_tools) == FORMATS


@pytest.mark.parametrize("chat_format", FORMATS)
def test_a_marker_in_prose_is_text_and_holds_nothing_back(chat_format):
    for marker in markers(chat_format):
        parser = chat_parser(chat_format)
        text = "".join(delta.text for delta in parser.push(f"The marker {marker} stands here, ") if delta)
        assert text == f"The marker {marker} stands here, ", marker
        assert parser.push("so") + parser.finish() == [Content("so")]


@pytest.mark.parametrize("chat_format", FORMATS)
def test_a_marker_in_a_string_of_a_call_is_text(chat_format):
    value_end = {"glm": "</arg_value>", "qwen3_coder": "</parameter>"}.get(chat_format, "")
    for marker in markers(chat_format):
        said = f"use {marker.strip()} last"
        if '"' in marker or "\n" in said or said == f"use {value_end} last":
            continue
        text = call(chat_format, said)
        expected = ("", "", [("save", f'{{"text": "{said}"}}')])
        for pieces in ([text], list(text), text.partition(marker)):
            assert without_ids(read(pieces, chat_format)) == expected, marker


@pytest.mark.parametrize("chat_format", FORMATS)
def test_text_behind_a_call_is_content(chat_format):
    for text in (call(chat_format, "a"), call(chat_format, "a") * 2):
        for behind in ("\n\nDone.", "\nDone {so} far."):
            whole = text + behind
            reasoning, content, calls = without_ids(read([whole], chat_format))
            assert (reasoning, content.lstrip("\n")) == ("", behind.lstrip("\n"))
            assert calls == [("save", '{"text": "a"}')] * text.count("save")
            assert without_ids(read(list(whole), chat_format)) == (reasoning, content, calls)


JSON_ARGUMENTS = ["deepseek_v3_1", "gpt_oss", "kimi_k2", "mistral"]


@pytest.mark.parametrize("chat_format", JSON_ARGUMENTS)
def test_a_string_that_never_ends_ends_at_the_next_call(chat_format):
    header, end = CALLS[chat_format].split("ARGUMENTS")
    text = f'{header}{{"text": "a{end}{header}{{"b": 1}}{end}'
    expected = ("", "", [("save", '{"text": "a'), ("save", '{"b": 1}')])
    if chat_format == "mistral":  # its arguments have no marker at their end
        assert end == ""
    assert without_ids(read([text], chat_format)) == expected
    assert without_ids(read(list(text), chat_format)) == expected


def test_arguments_that_are_no_json_reach_to_the_next_marker():
    check("[TOOL_CALLS]f[ARGS]{oops} so[TOOL_CALLS]g[ARGS]{}", ("", "", [("f", "{oops} so"), ("g", "{}")]), "mistral")
    check(f"{HARMONY}<a/> {{}}<|call|>", ("", "", [("save", "<a/> {}")]), "gpt_oss")


TO_F = "to=functions.f"
HEADERS = {
    "constraint none of a type": (f"<|channel|>commentary {TO_F} <|constrain|>toml<|message|>x<|call|>", [("f", "x")]),
    "constraint a channel": (f"<|channel|>commentary {TO_F} <|constrain|>commentary<|message|>{{}}", [("f", "{}")]),
    "constraint empty": (f"<|channel|>commentary {TO_F} <|constrain|><|message|>{{}}", [("f", "{}")]),
    "constraint before": (f"<|channel|>commentary <|constrain|>json {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "type alone": (f"<|channel|>commentary {TO_F} yaml<|message|>a: 1<|call|>", [("f", "a: 1")]),
    "twice": (f"<|start|>assistant {TO_F}<|channel|>commentary {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "twice, spelt differently": (f" {TO_F}<|channel|>commentary to=f json<|message|>{{}}<|call|>", [("f", "{}")]),
    "channel doubled": (f"<|channel|>commentary<|channel|>commentary {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "word doubled": (f"<|channel|>commentary commentary {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "signs": (f"<|channel|>commentary?? {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "signs before": (f"<|channel|>––commentary {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "the tool as a channel": (f"<|channel|>f<|channel|>commentary {TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
    "no blank": (f"<|channel|>commentary{TO_F}<|message|>{{}}<|call|>", [("f", "{}")]),
}


@pytest.mark.parametrize(("text", "calls"), HEADERS.values(), ids=HEADERS)
def test_headers_that_gpt_oss_writes(text, calls):
    check(text, ("", "", calls), "gpt_oss")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|channel|>final <|constrain|>answer<|message|>Hi", ("", "Hi", [])),
        ("<|channel|>commentary to=assistant<|channel|>analysis<|message|>So<|end|>", ("So", "", [])),
        ("<|channel|>commentary<|channel|>final<|message|>Hi<|return|>", ("", "Hi", [])),
        ("<|channel|>analysis<|message|>Is <|end|> or <|call|> it?<|end|>", ("Is <|end|> or <|call|> it?", "", [])),
        ("<|channel|>final<|message|>A <|channel|>final, so.<|return|>", ("", "A <|channel|>final, so.", [])),
        ("<|channel|>final<|message|>a<|end|>\nb", ("", "ab", [])),
    ],
)  # fmt: skip
def test_messages_that_gpt_oss_writes(text, expected):
    check(text, expected, "gpt_oss")


def kimi(identifier: str, end: str = K_END) -> str:
    return f'{K_CALL}{identifier}{K_ARGS}{{"a": 1}}{end}'


@pytest.mark.parametrize(
    ("text", "content", "names"),
    [
        (kimi("functions.f:0"), "", ["f"]),
        (f"So.{kimi('functions.f:0', '')}\n{kimi('g:1', '')} Done.", "So. Done.", ["f", "g"]),
        (f"<|tool_call_section_begin|>{kimi('functions.f:0')}<|tool_call_section_end|>", "", ["f"]),
        (f"{K_SECTION}{kimi('f:0')}<|tool_call_section_end|>Hi", "Hi", ["f"]),
        (f"{kimi('f:0')}{K_END_SECTION}", "", ["f"]),
        (kimi("0"), "", ["0"]),
        (f"{K_CALL} and then {K_END}.", f"{K_CALL} and then {K_END}.", []),
    ],
)
def test_kimi_without_a_section_or_with_the_singular_one(text, content, names):
    for pieces in ([text], list(text)):
        reasoning, said, calls = read(pieces, "kimi_k2")
        assert (reasoning, said, [name for _, name, _ in calls]) == ("", content, names)
        assert all(arguments == '{"a": 1}' for *_, arguments in calls)


def test_prose_in_a_value_of_tags():
    said = "<tool_call> <function=g>\n</function> </tool_call>"
    text = call("qwen3_coder", said)
    escaped = said.replace("\n", "\\n")
    assert read_named(list(text), "qwen3_coder") == ("", "", [("save", f'{{"text": "{escaped}"}}')])
