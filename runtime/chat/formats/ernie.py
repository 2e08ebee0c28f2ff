"""ERNIE 4.5 Thinking's answers: Hermes' calls, and content between tags of its own.

<think>
...
</think>

<response>
...
</response>
<tool_call>
{"name": "f", "arguments": {...}}
</tool_call>
"""

from moedge.runtime.chat.formats.hermes import CALL, END_CALL, JSON_BODY, MORE_JSON
from moedge.runtime.chat.grammar import THINK, At, Grammar, behind_calls, response_steps

_CALLS = {CALL: JSON_BODY}

ERNIE = Grammar(
    steps={**response_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, MORE_JSON)},
    think=THINK,
    ends=("<|im_end|>", "</s>"),
)
