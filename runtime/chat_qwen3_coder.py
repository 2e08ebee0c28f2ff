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

FUNCTION, END_FUNCTION = "<function=", "</function>"
_ARGUMENT = re.compile(r"\s*<parameter=(?P<key>[^<>]+)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)


def _body(text: str) -> Body | None:
    name, end, rest = text.strip().removeprefix(FUNCTION).partition(">")
    if not text.lstrip().startswith(FUNCTION) or not end:
        return None
    return read_tagged(name.strip(), rest.removesuffix(END_FUNCTION), _ARGUMENT)


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
