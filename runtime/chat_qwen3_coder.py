"""Qwen3-Coder's and Qwen 3.5's answers: a call is a tag with the function's name around tags with its parameters.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

The models forget the outer `<tool_call>` at times, so `<function=` begins a call too.
"""

import re

from moedge.runtime.chat_grammar import THINK, At, Body, Grammar, thinking_steps
from moedge.runtime.chat_hermes import CALL, END_CALL, ENDS
from moedge.runtime.chat_tagged import read_tagged

FUNCTION = "<function="
_FUNCTION = re.compile(r"\s*<function=(?P<name>[^<>]+)>(?P<rest>.*?)(?:</function>)?\s*", re.DOTALL)
_ARGUMENT = re.compile(r"<parameter=(?P<key>[^<>]+)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)


def _body(text: str) -> Body | None:
    found = _FUNCTION.fullmatch(text)
    return read_tagged(found["name"].strip(), found["rest"], _ARGUMENT) if found else None


QWEN3_CODER = Grammar(
    steps={
        **thinking_steps({CALL: At.OPEN, FUNCTION: At.BODY}),
        At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN},
    },
    think=THINK,
    ends=ENDS,
    kept=frozenset({FUNCTION}),
    first={"<": At.BODY},
    body=_body,
)
