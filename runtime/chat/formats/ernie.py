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

from moedge.runtime.chat.formats.hermes import CALL, END_CALL
from moedge.runtime.chat.grammar import THINK, At, Grammar, response_steps
from moedge.runtime.chat.json_calls import read_calls

ERNIE = Grammar(
    steps={**response_steps({CALL: At.OPEN}), At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN}},
    think=THINK,
    ends=("<|im_end|>", "</s>"),
    first={"{": At.BODY, "[": At.BODY},
    body=read_calls,
)
