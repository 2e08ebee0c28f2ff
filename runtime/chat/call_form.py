"""How a template wants earlier tool calls: arguments as JSON text or as an object, "" or null as content beside them.

Found out by rendering one made-up call each way, because templates of all these kinds are published and none says so.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moedge.devices.errors import MoedgeError

_KEY = "moedge_key"
_ARGUMENTS = {_KEY: "moedge_value"}

_Render = Callable[[list[dict[str, Any]]], str]


@dataclass(frozen=True)
class CallForm:
    """What a template must be given to show earlier calls."""

    objects: bool  # arguments as text break it or are encoded a second time, while an object is well rendered
    null_content: bool  # it leaves calls out beside an empty text and shows them beside null


def call_form(render: _Render) -> CallForm:
    """The form for the template that `render` renders; plain JSON text beside "" if it shows no form of calls."""
    null_content = not _shown(render, "") and _shown(render, None)
    content = None if null_content else ""
    as_object, as_text = _try(render, _ARGUMENTS, content), _try(render, json.dumps(_ARGUMENTS), content)
    objects = as_object is not None and _KEY in as_object and (as_text is None or f'\\"{_KEY}' in as_text)
    return CallForm(objects, null_content)


def with_calls(messages: Sequence[Mapping[str, Any]], form: CallForm) -> list[Mapping[str, Any]]:
    """The messages with calls in this form; arguments whose text is no JSON object stay as they are."""
    return [_with_calls(message, form) if message.get("tool_calls") else message for message in messages]


def _with_calls(message: Mapping[str, Any], form: CallForm) -> Mapping[str, Any]:
    changed = dict(message)
    if form.objects:
        changed["tool_calls"] = [_with_object(call) for call in message["tool_calls"]]
    if form.null_content and not str(message.get("content") or "").strip():
        changed["content"] = None
    return changed


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    if not isinstance(function["arguments"], str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _shown(render: _Render, content: str | None) -> bool:
    forms = (_ARGUMENTS, json.dumps(_ARGUMENTS))
    return any(_KEY in (_try(render, arguments, content) or "") for arguments in forms)


def _try(render: _Render, arguments: Any, content: str | None) -> str | None:
    call = {"id": "moedge123", "type": "function", "function": {"name": "moedge", "arguments": arguments}}
    try:
        return render(
            [
                {"role": "user", "content": "moedge"},
                {"role": "assistant", "content": content, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "moedge123", "name": "moedge", "content": "moedge"},
            ]
        )
    except MoedgeError:
        return None
