"""Hermes' answers, which Qwen 2.5 and Qwen 3 write too: a call is a JSON object in a tag, thinking in `<think>`.

<tool_call>
{"name": "f", "arguments": {"a": 1}}
</tool_call>

Qwen3-Coder and Qwen 3.5 write tags inside of `<tool_call>` instead (qwen3_coder.py), GLM others (glm.py).
"""

from moedge.runtime.chat.grammar import THINK, At, BodyForm, Grammar, behind_calls, thinking_steps
from moedge.runtime.chat.json_calls import read_calls
from moedge.runtime.chat.nest import JSON
from moedge.runtime.chat.scans import NestScan

CALL, END_CALL = "<tool_call>", "</tool_call>"
ENDS = ("<|im_end|>", "<|endoftext|>")
JSON_BODY = (BodyForm(lambda: NestScan(JSON), read_calls),)
MORE_JSON = dict.fromkeys("{[", (BodyForm(lambda: NestScan(JSON), read_calls, whole=True),))
_CALLS = {CALL: JSON_BODY}

HERMES = Grammar(
    steps={**thinking_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, MORE_JSON)},
    think=THINK,
    ends=ENDS,
)
