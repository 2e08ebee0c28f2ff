"""GLM's answers, 4.5 and later: a call is its name and tagged arguments. Newlines between the tags may be missing.

<tool_call>NAME
<arg_key>KEY</arg_key>
<arg_value>VALUE</arg_value>
</tool_call>
"""

import re

from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, behind_calls, thinking_steps
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, ahead, alt, group, lit, maybe, run, seq
from moedge.runtime.chat.scans import TagScan
from moedge.runtime.chat.tagged import read_tagged

CALL, END_CALL = "<tool_call>", "</tool_call>"
_ARGUMENT = re.compile(r"\s*<arg_key>(?P<key>[^<>]*)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL)


def _body(text: str) -> Body | None:
    name, tag, rest = text.partition("<arg_key>")
    read = read_tagged(name.strip(), tag + rest, _ARGUMENT)
    return None if read is None or read[1] else ([read[0]], "")


_KEY = seq(lit("<arg_key>"), maybe(run("[^<>]")), maybe(seq(lit("</arg_key>"), BLANKS)), lit("<arg_value>"))
_BEHIND = seq(BLANKS, alt(group("value", _KEY), ahead(lit(END_CALL)), ahead(lit(CALL)), END_OF_TEXT))
_HEAD = seq(BLANKS, run(r"[^\s<>]"), _BEHIND)
_CALLS = {CALL: (BodyForm(lambda: TagScan(_HEAD, _BEHIND, "</arg_value>", (END_CALL,), (CALL,)), _body),)}

GLM = Grammar(
    steps={**thinking_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, {})},
    think=THINK,
    ends=("<|user|>", "<|observation|>", "<|endoftext|>"),
)
