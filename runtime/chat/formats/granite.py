"""Granite's answers: `<|tool_call|>` and a JSON array (3.x; 3.1 spells it `<tool_call>` too), or Hermes' form (4.0).

Thinking, where there is any, stands in `<think>...</think>`, the answer after it in `<response>...</response>` (3.3).
"""

from moedge.runtime.chat.formats.hermes import END_CALL, JSON_BODY, MORE_JSON
from moedge.runtime.chat.grammar import THINK, At, Grammar, behind_calls, response_steps

_CALLS = dict.fromkeys(("<|tool_call|>", "<tool_call>"), JSON_BODY)

GRANITE = Grammar(
    steps={**response_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, MORE_JSON)},
    think=THINK,
    ends=("<|end_of_text|>",),
)
