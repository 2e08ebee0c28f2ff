"""Mistral's and Mixtral's answers, old and new: `[TOOL_CALLS]` and a JSON array, or a marker and a name for each call.

    [TOOL_CALLS] [{"name": "f", "arguments": {...}, "id": "..."}, ...]     tokenizers before v11
    [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}[TOOL_CALLS]g[ARGS]{...}            v11 and later; [CALL_ID] in v11 alone

Some write neither `[ARGS]` nor `[CALL_ID]`: the arguments then begin with their brace. Arguments end where their
JSON ends, and what follows is content or the next call; arguments that are no JSON reach to the next call. Thinking
stands in `[THINK]...[/THINK]`.
"""

import re

from moedge.runtime.chat.formats.hermes import JSON_BODY, MORE_JSON
from moedge.runtime.chat.grammar import At, Grammar, HeaderForm, WrittenCall, behind_calls, thinking_steps
from moedge.runtime.chat.opening import BLANKS, NAME_LETTERS, ahead, alt, lit, maybe, run, seq

CALL, CALL_ID, ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
THINK, END_THINK = "[THINK]", "[/THINK]"
_HEADER = seq(
    lit(CALL), BLANKS, run(NAME_LETTERS, "name"), BLANKS,
    maybe(seq(lit(CALL_ID), BLANKS, run(NAME_LETTERS, "id"), BLANKS)),
    alt(lit(ARGUMENTS), ahead(lit("{"))),
)  # fmt: skip


def _header(found: re.Match[str]) -> WrittenCall:
    return WrittenCall(found["name"], id=found["id"])


_CALLS = {CALL: (*JSON_BODY, HeaderForm(_HEADER, _header))}

MISTRAL = Grammar(
    steps={
        **thinking_steps(_CALLS, THINK, END_THINK),
        At.ARGUMENTS: _CALLS,
        **behind_calls(_CALLS, {}, {"{": MORE_JSON["{"]}),
    },
    think=THINK,
    ends=("</s>",),
)
