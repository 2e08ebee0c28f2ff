"""Formats whose calls have a header before JSON arguments: DeepSeek's, Mistral's, gpt-oss'. Whole, cut and broken."""

import pytest
from chat_reading import check, read, read_named

from moedge.runtime.chat.delta import CallArguments, CallStart
from moedge.runtime.chat.formats import chat_parser

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEP, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"


A1, LINES, FENCES = '{"a": 1}', '{\n  "a": 1\n}', '{"a": "\n```x\n```"}'


def unread(text: str) -> tuple:
    return text, ("", text, [])


def fenced(name: str, arguments: str) -> str:
    return f"{CALL}function{SEP}{name}\n```json\n{arguments}\n```{CALL_END}"


def bare(name: str, arguments: str) -> str:
    return f"{CALL}{name}{SEP}{arguments}{CALL_END}"


V3 = {
    "call": (f"{BEGIN}{fenced('f', A1)}{END}", ("", "", [("f", '{"a": 1}')])),
    "all at once": (
        f"<think>\nso\n</think>\n\nSure.{BEGIN}{fenced('f', LINES)}\n{fenced('g', '{}')}{END}Done.",
        ("so", "Sure.Done.", [("f", '{\n  "a": 1\n}'), ("g", "{}")]),
    ),
    "call while thinking": (f"<think>so{BEGIN}{fenced('f', '{}')}", ("so", "", [("f", "{}")])),
    "no section": (f"a{fenced('f', '{}')}", ("", "a", [("f", "{}")])),
    "fence without newline": (
        f"{BEGIN}{CALL}function{SEP}f\n```json\n{{}}```{CALL_END}{END}",
        ("", "", [("f", "{}")]),
    ),
    "fence with two newlines": (
        f"{BEGIN}{CALL}function{SEP}f\n```json\n{{}}\n```\n{CALL_END}{END}",
        ("", "", [("f", "{}")]),
    ),
    "no fence": (f'{BEGIN}{CALL}function{SEP}f\n{{"a": 1}}\n{CALL_END}{END}', ("", "", [("f", '{"a": 1}')])),
    "fence and arguments on a line": (
        f"{BEGIN}{CALL}function{SEP}f\n```json{A1}\n```{CALL_END}{END}",
        ("", "", [("f", A1)]),
    ),
    "plain fence": (f"{BEGIN}{CALL}function{SEP}f\n```\n{LINES}\n```{CALL_END}{END}", ("", "", [("f", LINES)])),
    "fence on one line": (f"{BEGIN}{CALL}function{SEP}f ```{A1}```\n{CALL_END}{END}", ("", "", [("f", A1)])),
    "fence around no object": (
        f"{BEGIN}{CALL}function{SEP}f\n```json\noops\n```{CALL_END}{END}",
        ("", "", [("f", "oops")]),
    ),
    "a brace too many": (
        f"{BEGIN}{CALL}function{SEP}f\n```json\n{{}}}}\n```{CALL_END}{END}x",
        ("", "}x", [("f", "{}")]),
    ),
    "empty fence": (f"{BEGIN}{CALL}function{SEP}f\n```json\n```{CALL_END}{END}", ("", "", [("f", "{}")])),
    "closing fence alone": (f"{BEGIN}{CALL}function{SEP}f\n{A1}\n```{CALL_END}{END}", ("", "", [("f", A1)])),
    "fence and no end of call": (
        f"{fenced('f', A1).removesuffix(CALL_END)}{fenced('g', '{}').removesuffix(CALL_END)}{END}",
        ("", "", [("f", A1), ("g", "{}")]),
    ),
    "no fence, cut off": (f'{BEGIN}{CALL}function{SEP}f\n{{"a": ', ("", "", [("f", '{"a": ')])),
    "no end of call": (
        f"{BEGIN}{CALL}function{SEP}f\n```json\n{{}}{CALL}function{SEP}g\n```json\n[]{END}",
        ("", "", [("f", "{}"), ("g", "[]")]),
    ),
    "ends at the fence": (f"{BEGIN}{CALL}function{SEP}f\n```json\n{{}}\n```", ("", "", [("f", "{}")])),
    "a fence inside arguments": (
        f"{BEGIN}{fenced('f', FENCES)}{END}",
        ("", "", [("f", '{"a": "\\n```x\\n```"}')]),
    ),
    "no arguments": (f"{BEGIN}{CALL}function{SEP}f{CALL_END}{END}", ("", "", [("f", "{}")])),
    "arguments cut off": (f'{BEGIN}{CALL}function{SEP}f\n```json\n{{"a": ', ("", "", [("f", '{"a": ')])),
    "bad json": (f"{BEGIN}{fenced('f', '{oops')}{END}", ("", "", [("f", "{oops")])),
    "header cut off": unread(f"{BEGIN}{CALL}function{SEP}f\n```js"),
    "nameless": unread(f"{BEGIN}{CALL}function{SEP} \n```json\n{{}}\n```{CALL_END}{END}!"),
    "unknown type": unread(f"{BEGIN}{CALL}code{SEP}f\n```json\n{{}}\n```{CALL_END}"),
    "prose in a section": unread(f"{BEGIN} well {END}"),
    "code behind a call": (f"{BEGIN}{fenced('f', A1).removesuffix(CALL_END)}\n```py\nx\n```", (
        "", "```py\nx\n```", [("f", A1)],
    )),
    "empty section": (f"a{BEGIN}{END}b", ("", "ab", [])),
    "nested": (f"{BEGIN}{BEGIN}{fenced('f', '{}')}{END}{END}", ("", f"{BEGIN}{END}", [("f", "{}")])),
}  # fmt: skip
V3_1 = {
    "call": (f"{BEGIN}{bare('f', A1)}{END}", ("", "", [("f", '{"a": 1}')])),
    "two": (f"Sure.{BEGIN}{bare('f', '{}')}{bare('g', '[]')}{END}", ("", "Sure.", [("f", "{}"), ("g", "[]")])),
    "thinking": (f"<think>a</think>b{BEGIN}{bare('f', '{}')}{END}", ("a", "b", [("f", "{}")])),
    "arguments cut off": (f'{BEGIN}{CALL}f{SEP}{{"a', ("", "", [("f", '{"a')])),
    "no arguments": (f"{BEGIN}{CALL}f{CALL_END}{END}", ("", "", [("f", "{}")])),
    "no arguments yet": (f"{BEGIN}{CALL}f{SEP}", ("", "", [("f", "")])),
    "half an escape before the next call": (
        f'{BEGIN}{CALL}f{SEP}{{"a": "x\\{CALL}g{SEP}{{}}{CALL_END}{END}',
        ("", "", [("f", '{"a": "x\\'), ("g", "{}")]),
    ),
    "header cut off": unread(f"{BEGIN}{CALL}f<｜tool"),
    "nameless": unread(f"{BEGIN}{bare(' ', '{}')}{END}"),
    "prose behind a call": (
        f"{BEGIN}{bare('f', A1)}\n\nSo {CALL} is.{END} And",
        (
            "",
            f"So {CALL} is. And",
            [("f", A1)],
        ),
    ),
    "bad json": (f"{BEGIN}{bare('f', 'x{')}{END}", ("", "", [("f", "x{")])),
}
MISTRAL = {
    "array": ('[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]', ("", "", [("f", '{"a": 1}')])),
    "array of two": ('Sure.[TOOL_CALLS][{"name": "f"}, {"name": "g"}]', ("", "Sure.", [("f", "{}"), ("g", "{}")])),
    "one object": ('[TOOL_CALLS]{"name": "f", "arguments": {}}', ("", "", [("f", "{}")])),
    "text behind the array": ('[TOOL_CALLS] [{"name": "f"}]\n\nIt is 4.', ("", "It is 4.", [("f", "{}")])),
    "with marker": (
        '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}',
        ("", "", [("f", '{"a": 1}'), ("g", "{}")]),
    ),
    "without marker": ('[TOOL_CALLS]f{"a": {}}[TOOL_CALLS] g {}', ("", "", [("f", '{"a": {}}'), ("g", "{}")])),
    "thinking": ("[THINK]so[/THINK]Hi", ("so", "Hi", [])),
    "thinking, call": ("[THINK]so[/THINK][TOOL_CALLS]f[ARGS]{}", ("so", "", [("f", "{}")])),
    "call while thinking": ("[THINK]so[TOOL_CALLS]f[ARGS]{}", ("so", "", [("f", "{}")])),
    "bad call after one in thinking": (
        "[THINK]so[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS] [x]",
        ("so", "[TOOL_CALLS] [x]", [("f", "{}")]),
    ),
    "arguments cut off": ('[TOOL_CALLS]f[ARGS]{"a": ', ("", "", [("f", '{"a": ')])),
    "bad json": ("[TOOL_CALLS]f[ARGS]oops", ("", "", [("f", "oops")])),
    "header cut off": unread("[TOOL_CALLS]get_w"),
    "array cut off": ('[TOOL_CALLS] [{"name": "f', ("", '[TOOL_CALLS] [{"name": "f', [])),
    "bad array": ("[TOOL_CALLS] [oops]", ("", "[TOOL_CALLS] [oops]", [])),
    "nameless": ("[TOOL_CALLS][ARGS]{}", ("", "[TOOL_CALLS][ARGS]{}", [])),
    "prose": unread('[TOOL_CALLS]I call f {"a": 1}'),
    "nested": ("[TOOL_CALLS][TOOL_CALLS]f[ARGS]{}", ("", "[TOOL_CALLS]", [("f", "{}")])),
    "brackets are text": ("See [1] and [TOOL", ("", "See [1] and [TOOL", [])),
}


def message(header: str, text: str, end: str = "<|end|>") -> str:
    return f"<|start|>assistant{header}<|message|>{text}{end}"


THOUGHT = "<|channel|>analysis<|message|>So.<|end|>"
FINAL = message("<|channel|>final", "Four.", "<|return|>")
GPT_OSS = {
    "thought and answer": (f"{THOUGHT}{FINAL}", ("So.", "Four.", [])),
    "answer": ("<|channel|>final<|message|>Four.", ("", "Four.", [])),
    "call": (
        f"{THOUGHT}{message('<|channel|>commentary to=functions.f <|constrain|>json', A1, '<|call|>')}",
        ("So.", "", [("f", '{"a": 1}')]),
    ),
    "recipient first": (
        f"{THOUGHT}{message(' to=functions.f<|channel|>commentary json', '{}', '<|call|>')}",
        ("So.", "", [("f", "{}")]),
    ),
    "recipient at once": (" to=functions.f<|channel|>analysis<|message|>{}", ("", "", [("f", "{}")])),
    "no blank before the type": (
        "<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>",
        ("", "", [("f", "{}")]),
    ),
    "more blanks": (
        "<|channel|> commentary  to=functions.f \n<|constrain|> json <|message|>{}<|call|>",
        ("", "", [("f", "{}")]),
    ),
    "other namespaces": (
        f"{message('<|channel|>analysis to=browser.search code', '{}')}{message('<|channel|>commentary to=g', '{}')}",
        ("", "", [("browser.search", "{}"), ("g", "{}")]),
    ),
    "preamble": (
        f"{THOUGHT}{message('<|channel|>commentary', 'I look.')}{message(' to=functions.f', '{}', '<|call|>')}{FINAL}",
        ("So.", "I look.\nFour.", [("f", "{}")]),
    ),
    "two thoughts": (f"{THOUGHT}<|start|>assistant{THOUGHT}{FINAL}", ("So.\nSo.", "Four.", [])),
    "an empty message between": (
        message("<|channel|>final", "a") + message("<|channel|>commentary", "") + message("<|channel|>analysis", "b"),
        ("b", "a", []),
    ),
    "no end of message": (f"<|channel|>analysis<|message|>So.{FINAL}", ("So.", "Four.", [])),
    "no channel": (message("", "Four."), ("", "Four.", [])),
    "no header": ("<|message|>Four.", ("", "Four.", [])),
    "no markers": ("Four.", ("", "Four.", [])),
    "blank": (" \n", ("", " \n", [])),
    "half a marker": ("<|chan", ("", "<|chan", [])),
    "unknown channel": unread("<|channel|>aside<|message|>Hm.<|end|>"),
    "a call on an unknown channel": unread("<|channel|>aside to=functions.f<|message|>{}<|call|>"),
    "the type before the recipient": (
        "<|channel|>commentary json to=functions.f<|message|>{}<|call|>",
        ("", "", [("f", "{}")]),
    ),
    "two recipients": unread(" to=a<|channel|>analysis to=b<|message|>x"),
    "a made up result": unread("<|start|>functions.f to=assistant<|channel|>commentary<|message|>4<|end|>"),
    "a made up result in the model's own name": unread(" to=assistant<|channel|>commentary<|message|>4<|end|>"),
    "an answer behind a made up result": (
        f" to=assistant<|channel|>commentary<|message|>4<|end|>{FINAL}",
        ("", " to=assistant<|channel|>commentary<|message|>4<|end|>\nFour.", []),
    ),
    "nameless": unread("<|channel|>commentary to= <|message|>{}"),
    "header cut off": ("<|channel|>commentary to=functions.f", ("", "<|channel|>commentary to=functions.f", [])),
    "arguments cut off": ('<|channel|>commentary to=functions.f<|message|>{"a', ("", "", [("f", '{"a')])),
    "bad json": ("<|channel|>commentary to=functions.f<|message|>{oops<|call|>", ("", "", [("f", "{oops")])),
    "text between": (f"{THOUGHT}\nHm {FINAL}", ("So.", "Hm \nFour.", [])),
}


@pytest.mark.parametrize(
    ("chat_format", "text", "expected"),
    [
        pytest.param(chat_format, *case, id=f"{chat_format}: {name}")
        for chat_format, cases in (
            ("deepseek_v3", V3),
            ("deepseek_v3_1", V3_1),
            ("mistral", MISTRAL),
            ("gpt_oss", GPT_OSS),
        )
        for name, case in cases.items()
    ],
)
def test_every_split(chat_format, text, expected):
    check(text, expected, chat_format)


def test_mistrals_call_ids_are_the_models():
    text = '[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{"x": 1}'
    assert read([text], "mistral") == ("", "", [("a1b2c3d4e", "f", '{"x": 1}')])
    assert read(list(text), "mistral") == read([text], "mistral")


def test_harmonys_last_token_may_be_missing():
    assert read_named([f"{THOUGHT}{FINAL}".removesuffix("<|return|>")], "gpt_oss") == ("So.", "Four.", [])


@pytest.mark.parametrize(
    ("chat_format", "header", "end"),
    [
        ("deepseek_v3", f"{BEGIN}{CALL}function{SEP}f\n```json\n", f"\n```{CALL_END}"),
        ("deepseek_v3_1", f"{BEGIN}{CALL}f{SEP}", CALL_END),
        ("mistral", "[TOOL_CALLS]f[ARGS]", ""),
        ("gpt_oss", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>", "<|call|>"),
    ],
)
def test_arguments_stream_while_they_are_written(chat_format, header, end):
    parser = chat_parser(chat_format)
    (start,) = parser.push(header)
    assert (type(start), start.name) == (CallStart, "f")
    assert parser.push('{"x"') == [CallArguments(0, '{"x"')]
    assert parser.push(": 1}") == [CallArguments(0, ": 1}")]
    assert parser.push(end) + parser.finish() == []
