"""Qwen3-Coder's and Qwen 3.5's answers: a call is a tag with the function's name around tags with its parameters.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

The models forget the outer tags at times, so `<function=` begins a call too, which then ends at `</function>`; and
they forget `</parameter>`.
Their template shows them earlier booleans as Python spells them, and so they write them.
"""

import re

from moedge.runtime.chat.formats.hermes import CALL, END_CALL, ENDS
from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, WrittenCall, thinking_steps
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, NAME_LETTERS, ahead, alt, group, lit, run, seq
from moedge.runtime.chat.scans import TagScan
from moedge.runtime.chat.tagged import Tags, behind_blanks, read_tagged

FUNCTION, END_FUNCTION = "<function=", "</function>"
_HEADER = re.compile(r"<function=([^<>]*)>")
_TAGS = Tags(
    re.compile(
        r"<parameter=(?P<key>[^<>]+)>|(?P<close></parameter>)" + f"|{FUNCTION}|{END_FUNCTION}|{CALL}|{END_CALL}"
    ),
    lines=True,
)


def qwen3_coder_calls(text: str) -> Body | None:
    """The calls that a text begins with, and the rest; a last value without its end counts if a tag ends the call."""
    calls: list[WrittenCall] = []
    at = behind_blanks(text, 0)
    while header := _HEADER.match(text, at):
        read = read_tagged(header[1].strip(), text, header.end(), _TAGS)
        if read is None:
            return None
        call, at = read
        calls.append(call)
        if text.startswith(END_FUNCTION, at):
            at = behind_blanks(text, at + len(END_FUNCTION))
        elif at < len(text) and not text.startswith((FUNCTION, END_CALL, CALL), at):
            return None
    return (calls, text[at:].removeprefix(END_CALL).rstrip()) if calls else None


_PARAMETER = seq(lit("<parameter="), run(r"[^<>]"), lit(">"))
_BEHIND = seq(
    BLANKS,
    alt(
        group("value", _PARAMETER), lit(END_FUNCTION), ahead(alt(*map(lit, (END_CALL, CALL, FUNCTION)))), END_OF_TEXT,
    ),
)  # fmt: skip
_HEAD = seq(BLANKS, lit(FUNCTION), BLANKS, run(NAME_LETTERS), BLANKS, lit(">"), _BEHIND)


def _scan() -> TagScan:
    return TagScan(_HEAD, _BEHIND, "</parameter>", (END_FUNCTION, END_CALL), (CALL, FUNCTION))


_CALLS = {CALL: (BodyForm(_scan, qwen3_coder_calls),), FUNCTION: (BodyForm(_scan, qwen3_coder_calls, whole=True),)}

QWEN3_CODER = Grammar(
    steps={
        **thinking_steps(_CALLS),
        At.INSIDE: {END_FUNCTION: At.INSIDE, END_CALL: At.AFTER, **_CALLS},
        At.LOOSE: _CALLS,  # the outer tag may have been forgotten, so that its end is text
    },
    think=THINK,
    ends=ENDS,
    words={"True": True, "False": False, "None": None},
)
