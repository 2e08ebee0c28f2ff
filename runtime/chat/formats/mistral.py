"""Mistral's and Mixtral's answers, old and new: `[TOOL_CALLS]` and a JSON array, or a marker and a name for each call.

    [TOOL_CALLS] [{"name": "f", "arguments": {...}, "id": "..."}, ...]     tokenizers before v11
    [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}[TOOL_CALLS]g[ARGS]{...}            v11 and later; [CALL_ID] in v11 alone

Some write neither `[ARGS]` nor `[CALL_ID]`: the arguments then begin with their brace. Thinking stands in
`[THINK]...[/THINK]`.
"""

from moedge.runtime.chat.grammar import At, Grammar, WrittenCall, thinking_steps
from moedge.runtime.chat.json_calls import read_calls

CALL, CALL_ID, ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
THINK, END_THINK = "[THINK]", "[/THINK]"


def _header(text: str) -> WrittenCall | None:
    name, _, identifier = text.partition(CALL_ID)
    if len(name.split()) != 1:  # no name, or a sentence that happens to hold a brace
        return None
    return WrittenCall(name.strip(), id=identifier.strip() or None)


MISTRAL = Grammar(
    steps={
        **thinking_steps({CALL: At.OPEN}, THINK, END_THINK),
        At.HEADER: {ARGUMENTS: At.ARGUMENTS, "{": At.ARGUMENTS, CALL: At.OPEN},
        At.ARGUMENTS: {CALL: At.OPEN},
        At.BODY: {CALL: At.OPEN},
    },
    think=THINK,
    ends=("</s>",),
    kept=frozenset({"{"}),
    first={"[": At.BODY, "{": At.BODY, "": At.HEADER},
    header=_header,
    body=read_calls,
)
