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
from moedge.runtime.chat.grammar import THINK, At, Body, Grammar, WrittenCall, thinking_steps
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


_THINKING = thinking_steps({CALL: At.OPEN, FUNCTION: At.BARE})

QWEN3_CODER = Grammar(
    steps={
        **_THINKING,
        At.AFTER: {**_THINKING[At.AFTER], END_CALL: At.AFTER},  # of a call whose opening tag was forgotten
        At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN},
        At.BARE: {END_FUNCTION: At.AFTER, END_CALL: At.AFTER, CALL: At.OPEN},
    },
    think=THINK,
    ends=ENDS,
    kept=frozenset({FUNCTION}),
    first={"<": At.BODY},
    body=_body,
    words={"True": True, "False": False, "None": None},
)
