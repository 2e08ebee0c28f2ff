"""Cohere's answers, of Command from R7B on and of North: thinking, then a text or calls, each between markers.

    <|START_THINKING|>...<|END_THINKING|><|START_RESPONSE|>...<|END_RESPONSE|>
    <|START_THINKING|>...<|END_THINKING|><|START_ACTION|>[
        {"tool_call_id": "0", "tool_name": "f", "parameters": {...}}
    ]<|END_ACTION|>

North and Command A+ write `<|START_TEXT|>` where the older ones write `<|START_RESPONSE|>`. Calls are numbered anew in
each conversation, and templates number them themselves: the numbers name nothing and are dropped. Citations,
`<co>...</co: 0:[0]>`, are text.
"""

from typing import Any

from moedge.runtime.chat.grammar import At, Body, BodyForm, Grammar, behind_calls, response_steps
from moedge.runtime.chat.json_calls import read_calls
from moedge.runtime.chat.literals import RepeatedKeys
from moedge.runtime.chat.nest import JSON
from moedge.runtime.chat.scans import NestScan

THINK, END_THINK = "<|START_THINKING|>", "<|END_THINKING|>"
TAGS = (("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>"))
CALL, END_CALL = "<|START_ACTION|>", "<|END_ACTION|>"


def cohere_calls(text: str) -> Body | None:
    """The calls that a text begins with, and the rest of it."""
    return read_calls(text, _as_others_write)


def _as_others_write(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(value, RepeatedKeys):
        return value  # which is no call
    said = {key: item for key, item in value.items() if key != "tool_call_id" or not isinstance(item, str | int)}
    if "tool_name" in said and "name" not in said:
        said["name"] = said.pop("tool_name")
    return said


_CALLS = {CALL: (BodyForm(lambda: NestScan(JSON), cohere_calls),)}
_MORE = dict.fromkeys("{[", (BodyForm(lambda: NestScan(JSON), cohere_calls, whole=True),))
_STEPS = response_steps(_CALLS, (THINK, END_THINK), TAGS)

COHERE = Grammar(
    steps={
        **_STEPS,
        At.START: {**_STEPS[At.START], END_THINK: At.AFTER},  # again, where the prompt has closed the thinking already
        **behind_calls(_CALLS, {END_CALL: At.AFTER}, _MORE),
    },
    think=THINK,
    ends=("<|END_OF_TURN_TOKEN|>",),
)
