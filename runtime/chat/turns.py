"""A conversation in OpenAI's form, put into the dialect of a template.

What is optional in that form is filled in, and earlier answers are written as the template shows them.

What a dialect is, and how it is found out, is dialect.py's matter; nothing here renders.
"""

import hashlib
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moedge.runtime.chat.dialect import THOUGHT_KEYS, Dialect, Ids, Turn, thought_of, with_thought
from moedge.runtime.chat.grammar import END_THINK, THINK

_NINE = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS = string.ascii_letters + string.digits


def plain_message(message: Turn) -> dict[str, Any]:
    """The message without what says nothing: null as content is an empty text, empty thinking and calls are none."""
    optional = ("tool_calls", *THOUGHT_KEYS)
    said = {name: value for name, value in message.items() if value is not None and (value or name not in optional)}
    return {**said, "content": said.get("content", "")}


def whole_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with a description and parameters, empty ones if it has none."""
    function = tool.get("function")
    parameters = function.get("parameters") or {} if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(parameters, Mapping):
        return dict(tool)
    parameters = {"type": "object", **parameters, "properties": parameters.get("properties") or {}}
    described = {"description": "", **function, "parameters": parameters}
    return {**tool, "function": {**described, "description": described["description"] or ""}}


def in_dialect(messages: Sequence[Turn], dialect: Dialect) -> list[Turn]:
    """Plain messages as the template wants them; arguments whose text is no JSON object stay as they are."""
    if dialect.text_before:
        messages = list(_text_before(messages))
    turns = [_answer(message, dialect) if message.get("role") == "assistant" else message for message in messages]
    if dialect.one_call:
        turns = list(_one_by_one(turns))
    if dialect.responses:
        turns = list(_with_responses(turns))
    return turns if dialect.ids == "any" else list(_with_ids(turns, dialect.ids))


def thinking_tags(text: str) -> tuple[int, int] | None:
    """Where the first </think> of an answer begins, and before that where the first <think>, -1 if there is none.

    The prompt may have opened the thinking. None: no thinking ends in the text.
    """
    end = text.find(END_THINK)
    return (text.find(THINK, 0, end), end) if end >= 0 else None


def _answer(message: Turn, dialect: Dialect) -> Turn:
    thought = thought_of(message)
    if not thought and dialect.thought and not dialect.reads_tags:
        message, thought = _tags_apart(message)
    calls = message.get("tool_calls")
    if thought:
        if calls and dialect.thought_alone:
            message = {**message, "content": ""}
        message = with_thought(message, thought, dialect.thought) if dialect.thought else message
    if not calls:
        return message
    changed = dict(message)
    if dialect.objects:
        changed["tool_calls"] = [_with_object(call) for call in calls]
    if dialect.null_content and not str(message.get("content") or "").strip():
        changed["content"] = None
    return changed


def _tags_apart(message: Turn) -> tuple[Turn, str]:
    """The message without the thinking that its text begins with, and that thinking, without newlines around either."""
    content: Any = message.get("content")
    tags = thinking_tags(content) if isinstance(content, str) else None
    if tags is None or tags[0] < 0 or content[: tags[0]].strip():
        return message, ""
    start, end = tags
    said = content[end + len(END_THINK) :].lstrip("\n")
    return {**message, "content": said}, content[start + len(THINK) : end].strip("\n")


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    if not isinstance(function["arguments"], str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _text_before(messages: Sequence[Turn]) -> Iterator[Turn]:
    """Text beside calls in a message of its own before them, with the thinking that came before it."""
    for message in messages:
        if message.get("tool_calls") and str(message.get("content") or "").strip():
            yield {name: value for name, value in message.items() if name != "tool_calls"}
            message = {**{name: value for name, value in message.items() if name not in THOUGHT_KEYS}, "content": ""}
        yield message


def _one_by_one(messages: Sequence[Turn]) -> Iterator[Turn]:
    """Each call in a message of its own, its result behind it; results of no call come last."""
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        calls = message.get("tool_calls") or []
        if len(calls) < 2:
            yield message
            continue
        results = []
        while place < len(messages) and messages[place].get("role") == "tool":
            results.append(messages[place])
            place += 1
        for number, call in enumerate(calls):
            bare = {"role": "assistant", "content": None if message["content"] is None else ""}
            yield {**(bare if number else message), "tool_calls": [call]}
            for result in results:
                if result.get("tool_call_id") == call.get("id"):
                    results.remove(result)
                    yield result
                    break
        yield from results


def _with_responses(messages: Sequence[Turn]) -> Iterator[Turn]:
    """Each call's results in its own message, and the text that follows them, which belongs to the same turn."""
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        names = {call.get("id"): call["function"]["name"] for call in message.get("tool_calls") or []}
        responses: list[dict[str, Any]] = []
        while names and place < len(messages) and messages[place].get("role") == "tool":
            result = messages[place]
            name = names.get(result.get("tool_call_id")) or result.get("name") or "unknown"
            responses.append({"name": name, "response": result["content"]})
            place += 1
        if responses:
            message = {**message, "tool_responses": responses}
            follows = messages[place] if place < len(messages) else {}
            if follows.get("role") == "assistant" and not follows.get("tool_calls") and not message.get("content"):
                message["content"] = follows["content"]
                place += 1
        yield message


def _with_ids(messages: Sequence[Turn], ids: Ids) -> Iterator[Turn]:
    """Ids of calls in the form that the template takes, the same in the call and in its result."""
    given: dict[str, str] = {}  # by the id that was sent; a later call may have an earlier one's
    count = 0
    for message in messages:
        calls = message.get("tool_calls")
        if calls:
            renamed = []
            for call in calls:
                identifier = str(call.get("id", ""))
                given[identifier] = _nine(identifier) if ids == "nine" else _named(identifier, call, count)
                renamed.append({**call, "id": given[identifier]})
                count += 1
            message = {**message, "tool_calls": renamed}
        elif message.get("role") == "tool" and "tool_call_id" in message:
            answered = str(message["tool_call_id"])
            other = _nine(answered) if ids == "nine" else answered
            message = {**message, "tool_call_id": given.get(answered, other)}
        yield message


def _nine(identifier: str) -> str:
    """Nine letters and digits; the same for the same id, so that a conversation renders alike in every turn."""
    if _NINE.fullmatch(identifier):
        return identifier
    number = int.from_bytes(hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).digest())
    return "".join(_LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(9))


def _named(identifier: str, call: Mapping[str, Any], count: int) -> str:
    name = call["function"]["name"]
    known = re.fullmatch(rf"functions\.{re.escape(name)}:\d+", identifier)
    return identifier if known else f"functions.{name}:{count}"
