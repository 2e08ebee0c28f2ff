"""An answer's deltas added up to one message of the assistant, in OpenAI's form. It reads no text: parser.py does."""

from collections.abc import Iterable
from typing import Any

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning


def assistant_message(deltas: Iterable[Delta]) -> dict[str, Any]:
    """`role`, `content`, and where there are any `reasoning_content` and `tool_calls`, in the order of their index.

    `content` is a string, empty if nothing was said. The arguments of a call are text as the model wrote it, which may
    be broken JSON.
    """
    reasoning: list[str] = []
    content: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        match delta:
            case Reasoning(text):
                reasoning.append(text)
            case Content(text):
                content.append(text)
            case CallStart(index, identifier, name):
                calls[index] = {"id": identifier, "type": "function", "function": {"name": name, "arguments": ""}}
            case CallArguments(index, text):
                calls[index]["function"]["arguments"] += text
    message: dict[str, Any] = {"role": "assistant", "content": "".join(content)}
    if thought := "".join(reasoning):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message
