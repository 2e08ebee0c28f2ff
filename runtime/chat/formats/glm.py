"""GLM's answers, 4.5 and later: a call is its name and tagged arguments. Newlines between the tags may be missing.

<tool_call>NAME
<arg_key>KEY</arg_key>
<arg_value>VALUE</arg_value>
</tool_call>
"""

import re

from moedge.runtime.chat.grammar import THINK, At, Body, Grammar, thinking_steps
from moedge.runtime.chat.tagged import read_tagged

CALL, END_CALL = "<tool_call>", "</tool_call>"
_ARGUMENT = re.compile(r"\s*<arg_key>(?P<key>[^<>]*)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL)


def _body(text: str) -> Body | None:
    name, tag, rest = text.partition("<arg_key>")
    read = read_tagged(name.strip(), tag + rest, _ARGUMENT)
    return None if read is None or read[1] else ([read[0]], "")


GLM = Grammar(
    steps={**thinking_steps({CALL: At.OPEN}), At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN}},
    think=THINK,
    ends=("<|user|>", "<|observation|>", "<|endoftext|>"),
    first={"": At.BODY},
    body=_body,
)
