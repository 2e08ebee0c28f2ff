"""GLM's answers, 4.5 and later, and those of Laguna and Ling 3: a call is its name and tagged arguments.

Newlines between the tags may be missing, as they are from GLM 4.7 on, and the models forget `</arg_key>` and
`</arg_value>` at times.

<tool_call>NAME
<arg_key>KEY</arg_key>
<arg_value>VALUE</arg_value>
</tool_call>
"""

import re

from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, behind_calls, thinking_steps
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, ahead, alt, group, lit, maybe, run, seq
from moedge.runtime.chat.scans import TagScan
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


_KEY = seq(lit("<arg_key>"), maybe(run("[^<>]")), maybe(seq(lit("</arg_key>"), BLANKS)), lit("<arg_value>"))
_BEHIND = seq(BLANKS, alt(group("value", _KEY), ahead(lit(END_CALL)), ahead(lit(CALL)), END_OF_TEXT))
_HEAD = seq(BLANKS, run(r"[^\s<>]"), _BEHIND)
_CALLS = {CALL: (BodyForm(lambda: TagScan(_HEAD, _BEHIND, "</arg_value>", (END_CALL,), (CALL,)), glm_calls),)}

GLM = Grammar(
    steps={**thinking_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, {})},
    think=THINK,
    ends=("<|user|>", "<|observation|>", "<|endoftext|>", "</assistant>", "<|role_end|>"),  # Laguna's, Ling's
)
