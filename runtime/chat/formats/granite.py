"""Granite's answers: `<|tool_call|>` and a JSON array (3.x; 3.1 spells it `<tool_call>` too), or Hermes' form (4.0).

Thinking, where there is any, stands in `<think>...</think>`, the answer after it in `<response>...</response>` (3.3).
"""

from moedge.runtime.chat.grammar import THINK, At, Grammar, response_steps
from moedge.runtime.chat.json_calls import read_calls

CALLS = {"<|tool_call|>": At.OPEN, "<tool_call>": At.OPEN}
END_CALL = "</tool_call>"

GRANITE = Grammar(
    steps={**response_steps(CALLS), At.BODY: {END_CALL: At.AFTER, **CALLS}},
    think=THINK,
    ends=("<|end_of_text|>",),
    first={"{": At.BODY, "[": At.BODY},
    body=read_calls,
)
