"""Qwen3-Coder's and Qwen 3.5's answers: a call is a tag with the function's name around tags with its parameters.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

The models forget the outer tags at times, so `<function=` begins a call too, which then ends at `</function>`.
Their template shows them earlier booleans as Python spells them, and so they write them.
"""

import re

from moedge.runtime.chat.formats.hermes import CALL, END_CALL, ENDS
from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, WrittenCall, thinking_steps
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, ahead, alt, group, lit, run, seq
from moedge.runtime.chat.scans import TagScan
from moedge.runtime.chat.tagged import read_tagged

FUNCTION, END_FUNCTION = "<function=", "</function>"
_ARGUMENT = re.compile(r"\s*<parameter=(?P<key>[^<>]+)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)


def _body(text: str) -> Body | None:
    calls: list[WrittenCall] = []
    rest = text.strip()
    while rest.startswith(FUNCTION):
        name, end, rest = rest.removeprefix(FUNCTION).partition(">")
        read = read_tagged(name.strip(), rest, _ARGUMENT) if end else None
        if read is None:
            return None
        call, rest = read
        if rest and not rest.startswith(END_FUNCTION):
            return None
        calls.append(call)
        rest = rest.removeprefix(END_FUNCTION).lstrip()
    return (calls, rest) if calls else None


_PARAMETER = seq(lit("<parameter="), run(r"[^<>]"), lit(">"))
_BEHIND = seq(
    BLANKS,
    alt(
        group("value", _PARAMETER), lit(END_FUNCTION), ahead(alt(*map(lit, (END_CALL, CALL, FUNCTION)))), END_OF_TEXT,
    ),
)  # fmt: skip
_HEAD = seq(BLANKS, lit(FUNCTION), run(r"[^<>]"), lit(">"), _BEHIND)


def _scan() -> TagScan:
    return TagScan(_HEAD, _BEHIND, "</parameter>", (END_FUNCTION, END_CALL), (CALL, FUNCTION))


_CALLS = {CALL: (BodyForm(_scan, _body),), FUNCTION: (BodyForm(_scan, _body, whole=True),)}

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
