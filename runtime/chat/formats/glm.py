"""GLM's answers, 4.5 and later: a call is its name and tagged arguments. Newlines between the tags may be missing,
and the models forget `</arg_key>` and `</arg_value>` at times.

<tool_call>NAME
<arg_key>KEY</arg_key>
<arg_value>VALUE</arg_value>
</tool_call>
"""

import re

from moedge.runtime.chat.grammar import THINK, At, Body, Grammar, thinking_steps
from moedge.runtime.chat.tagged import Tags, read_tagged

CALL, END_CALL = "<tool_call>", "</tool_call>"
_TAGS = Tags(
    re.compile(
        r"<arg_key>(?P<key>[^<>]*+)(?:</arg_key>\s*+)?+<arg_value>|(?P<close></arg_value>)" + f"|{CALL}|{END_CALL}"
    ),
    lines=False,
)
_NAME = re.compile(r"\s*([^\s<>]+)")


def glm_calls(text: str) -> Body | None:
    """The call that a text is; a last value without its end counts if the tag that ends the call is there too."""
    name = _NAME.match(text)
    read = read_tagged(name[1], text, name.end(), _TAGS) if name else None
    if read is None:
        return None
    call, at = read
    rest = text[at:].removeprefix(END_CALL)
    return ([call], rest) if not rest or rest == CALL else None


GLM = Grammar(
    steps={**thinking_steps({CALL: At.OPEN}), At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN}},
    think=THINK,
    ends=("<|user|>", "<|observation|>", "<|endoftext|>"),
    first={"": At.BODY},
    body=glm_calls,
)
