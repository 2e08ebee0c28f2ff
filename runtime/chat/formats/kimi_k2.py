"""Kimi K2's answers: `<think>` first if at all, content, and sections of tool calls named `functions.NAME:INDEX`.

The models leave out a section's markers or the end of a call, spell the section in the singular, and name a call by its
number alone. A call's id is the text that the model wrote, because its template shows that id again in later turns.
Blanks before `<think>` and between the calls of a section are layout and dropped.
"""

import re
from dataclasses import replace

from moedge.runtime.chat.grammar import END_THINK, THINK, At, Body, BodyForm, Grammar, HeaderForm, WrittenCall
from moedge.runtime.chat.nest import JSON
from moedge.runtime.chat.opening import BLANKS, NAME_LETTERS, Pattern, alt, group, lit, maybe, run, seq
from moedge.runtime.chat.scans import HeadedScan, HeaderScan, NestScan

SECTIONS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
END_SECTIONS = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
CALL, ARGUMENTS, END_CALL = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_SECTION, _END_SECTION = alt(*map(lit, SECTIONS)), alt(*map(lit, END_SECTIONS))


def _header_of(name: Pattern, end: Pattern) -> Pattern:
    return seq(maybe(seq(_SECTION, BLANKS)), lit(CALL), BLANKS, name, BLANKS, end)


def _header(found: re.Match[str]) -> WrittenCall | None:
    identifier = found["id"]
    written = identifier.removeprefix("functions.")
    name, colon, index = written.rpartition(":")
    if not (colon and index.isdecimal()):
        name = written
    return WrittenCall(name, id=identifier) if name else None


def _counted(text: str) -> Body | None:
    """A call that a number names: its arguments are needed to tell which tool it means."""
    found = _COUNTER.match(text)
    call = found and _header(found)
    return ([replace(call, arguments=text[found.end() :])], "") if found and call else None


_DIGITS = run("[0-9]")
_NUMBER = seq(maybe(lit("functions.")), _DIGITS, maybe(seq(lit(":"), _DIGITS)))
_COUNTER = _header_of(group("id", _NUMBER), lit(ARGUMENTS))
_FORMS = (
    HeaderForm(_header_of(run(NAME_LETTERS, "id"), alt(lit(ARGUMENTS), group("bare", lit(END_CALL)))), _header),
    BodyForm(lambda: HeadedScan(_COUNTER, lambda: NestScan(JSON)), _counted, whole=True),
)
_EMPTY = BodyForm(lambda: HeaderScan(seq(_SECTION, BLANKS, _END_SECTION)), lambda text: ([], ""), whole=True)
_CALLS = {CALL: _FORMS, **dict.fromkeys(SECTIONS, (*_FORMS, _EMPTY))}
_ENDS = dict.fromkeys(END_SECTIONS, At.CONTENT)

KIMI_K2 = Grammar(
    steps={
        At.START: {THINK: At.THINKING, **_CALLS},
        At.THINKING: {END_THINK: At.CONTENT, **_CALLS},
        At.CONTENT: _CALLS,
        At.ARGUMENTS: {END_CALL: At.INSIDE, **_ENDS, **_CALLS},
        At.INSIDE: {END_CALL: At.INSIDE, **_ENDS, **_CALLS},
        At.LOOSE: {END_CALL: At.INSIDE, **_ENDS, **_CALLS},
        At.REFUSED: {**_ENDS, **_CALLS},
    },
    think=THINK,
    ends=("<|im_end|>",),
    refused=At.REFUSED,
    counts=True,
)
