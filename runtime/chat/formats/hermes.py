"""Hermes' format, which Qwen 2.5 and 3, ERNIE 4.5 and many others took over.

    <tool_call>
    {"name": "f", "arguments": {...}}
    </tool_call>

Qwen3-Coder and Qwen 3.5 write tags inside of `<tool_call>` instead (qwen3_coder.py), GLM others (glm.py).
"""

from moedge.runtime.chat.grammar import THINK, At, Grammar, thinking_steps
from moedge.runtime.chat.json_calls import read_calls

CALL, END_CALL = "<tool_call>", "</tool_call>"
ENDS = ("<|im_end|>", "<|endoftext|>")

HERMES = Grammar(
    steps={**thinking_steps({CALL: At.OPEN}), At.BODY: {END_CALL: At.AFTER, CALL: At.OPEN}},
    think=THINK,
    ends=ENDS,
    first={"{": At.BODY, "[": At.BODY},
    body=read_calls,
)
