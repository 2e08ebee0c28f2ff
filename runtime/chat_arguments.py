"""How a chat template wants the arguments of earlier tool calls: as JSON text, as OpenAI sends them, or as an object.

Found out by rendering one made-up call both ways, because templates of both kinds are published and none says so.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moedge.devices.errors import MoedgeError

_KEY = "moedge_key"
_ARGUMENTS = {_KEY: "moedge_value"}


def wants_objects(render: Callable[[list[dict[str, Any]]], str]) -> bool:
    """Whether arguments as text break the template or are encoded a second time, while an object is well rendered."""
    as_object, as_text = _try(render, _ARGUMENTS), _try(render, json.dumps(_ARGUMENTS))
    return as_object is not None and _KEY in as_object and (as_text is None or f'\\"{_KEY}' in as_text)


def with_objects(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with each call's arguments read from their JSON text; text that is no object stays as it is."""
    return [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    if not isinstance(function["arguments"], str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _try(render: Callable[[list[dict[str, Any]]], str], arguments: Any) -> str | None:
    call = {"id": "moedge123", "type": "function", "function": {"name": "moedge", "arguments": arguments}}
    try:
        return render(
            [
                {"role": "user", "content": "moedge"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "moedge123", "name": "moedge", "content": "moedge"},
            ]
        )
    except MoedgeError:
        return None
