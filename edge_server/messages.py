"""Messages and tools of a chat request, checked and in the form that chat templates expect of Hugging Face.

What clients send back or beside it and no template shows is left out. How a template wants the rest is the runtime's
matter (runtime/chat/turns.py).
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from moedge.edge_server.call_ids import decode_id
from moedge.edge_server.fields import Fields, bad_field, objects_in
from moedge.edge_server.foreign_fields import NOTES

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_SCHEMA = 64 << 10  # bytes of one tool's JSON
MAX_TEXT = 1 << 20  # characters; the template's output is bounded again
ROLES = ("system", "developer", "user", "assistant", "tool")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# the names of an answer's thinking: ours, that of vLLM and OpenRouter, that of Ollama
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
Message = dict[str, Any]
Tool = dict[str, Any]


def read_messages(data: Any) -> tuple[Message, ...]:
    """Every message with role and content as a string; ApiError 400 names the field that does not fit."""
    if not isinstance(data, list) or not data:
        raise bad_field("messages", "it must be a list of at least one message")
    if len(data) > MAX_MESSAGES:
        raise bad_field("messages", f"it has {len(data)} messages, at most {MAX_MESSAGES} are accepted")
    return tuple(_message(each) for each in objects_in(data, "messages"))


def _message(fields: Fields) -> Message:
    role = fields.take("role")
    if role not in ROLES:
        raise fields.bad("role", f"it must be one of {', '.join(ROLES)}")
    # what OpenAI calls developer, every template here calls system
    message: Message = {"role": "system" if role == "developer" else role}
    # an answer may be thinking or calls alone, and a tool may have nothing to say
    message["content"], thought = _content(fields, optional=role in ("assistant", "tool"))
    if (name := fields.text("name", 64)) is not None:
        message["name"] = name
    if role == "assistant":
        _read_answer(fields, message, thought)
    else:
        fields.only("tool_calls", [])
        if thought:
            raise fields.bad("content", "only an assistant's message holds thinking")
    if role == "tool":
        message["tool_call_id"] = decode_id(fields.required_text("tool_call_id", 256))
    fields.ignore(NOTES)
    fields.done()
    return message


def _read_answer(fields: Fields, message: Message, thought: str) -> None:
    thoughts = [thought, *(fields.text(name, MAX_TEXT) for name in THOUGHTS)]
    if said := next((text for text in thoughts if text), None):
        message["reasoning_content"] = said
    if calls := _tool_calls(fields):
        message["tool_calls"] = calls
    fields.only("refusal")
    fields.only("audio")
    fields.only("function_call")


def _content(fields: Fields, optional: bool) -> tuple[str, str]:
    """The text of a message, and the thinking among its parts."""
    value = fields.take("content")
    if isinstance(value, list):
        parts = [_part(each) for each in objects_in(value, fields.path("content"))]
        return "".join(text for text, _ in parts), "".join(thought for _, thought in parts)
    if value is None and optional:
        return "", ""
    if not isinstance(value, str):
        raise fields.bad("content", "it must be a string or a list of text parts")
    return value, ""


def _part(fields: Fields) -> tuple[str, str]:
    fields.ignore(NOTES)
    thinking = fields.take("thinking")
    if thinking is None:
        fields.only("type", "text")
        part = fields.required_text("text", MAX_TEXT), ""
    else:  # of Mistral and Anthropic
        fields.only("type", "thinking")
        fields.ignore(("signature", "closed"))
        if isinstance(thinking, list):
            thinking = "".join(_part(each)[0] for each in objects_in(thinking, fields.path("thinking")))
        if not isinstance(thinking, str):
            raise fields.bad("thinking", "it must be a string or a list of text parts")
        part = "", thinking
    fields.done()
    return part


def _tool_calls(fields: Fields) -> list[dict[str, Any]]:
    return [_tool_call(each) for each in fields.objects("tool_calls", MAX_TOOLS)]


def _tool_call(fields: Fields) -> dict[str, Any]:
    fields.only("type", "function")
    identifier = decode_id(fields.required_text("id", 256))
    fields.ignore(NOTES)
    function = fields.inner("function")
    name = function.required_text("name", 256)
    arguments = function.take("arguments")
    if isinstance(arguments, dict):  # some clients parse them and send them back so
        arguments = json.dumps(arguments, ensure_ascii=False)
    else:
        arguments = function.text("arguments", MAX_TEXT)
    function.ignore(NOTES)
    function.done()
    fields.done()
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments or ""}}


def read_tools(data: list[Any] | None) -> tuple[Tool, ...]:
    """The tools for the model to read, but for what is null or says how to decode; ApiError 400 if one is no function.

    A description and parameters are optional; a template that cannot do without gets empty ones from the runtime.
    """
    tools = tuple(_tool(each) for each in objects_in(data or [], "tools"))
    check_tool_names([tool["function"]["name"] for tool in tools], "function.name")
    return tools


def check_tool_names(names: Sequence[str], member: str) -> None:
    """ApiError 400 if two tools have one name; `member` of a tool holds it."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise bad_field(f"tools[{i}].{member}", f"{name} is there twice")


def check_tool_size(tool: Tool, where: str) -> None:
    """ApiError 400 if the tool that stands there has more than MAX_SCHEMA bytes of JSON as the model is shown it."""
    if len(json.dumps(tool, ensure_ascii=False).encode()) > MAX_SCHEMA:
        raise bad_field(where, f"it has more than {MAX_SCHEMA} bytes of JSON")


def _tool(fields: Fields) -> Tool:
    if fields.take("type") not in (None, "function"):
        raise fields.bad("type", 'it must be "function"')
    function = fields.inner("function")
    fields.ignore(NOTES)
    fields.done()
    if not NAME.fullmatch(function.required_text("name", 64)):
        raise function.bad("name", "it must be letters, digits, dots, underscores and dashes")
    function.text("description", MAX_SCHEMA)
    function.flag("strict")  # a wish for how to decode, which the model is not told
    check_schema(function, "parameters")
    function.done()
    shown = {name: value for name, value in function.everything().items() if name != "strict"}
    sent = fields.everything()
    sent = sent if "type" in sent else {"type": "function", **sent}
    tool = {name: shown if name == "function" else "function" for name in sent if name not in NOTES}
    check_tool_size(tool, fields.where)
    return tool


def check_schema(function: Fields, name: str) -> None:
    """The outline of a JSON Schema for arguments, if there is one; the model reads the rest as text."""
    value = function.take(name)
    if value is None:
        return
    path = function.path(name)
    schema = Fields(value, path)
    if schema.take("type") not in (None, "object"):
        raise schema.bad("type", 'it must be "object", arguments have names')
    for name, property_ in schema.inner("properties", {}).everything().items():
        if not isinstance(property_, dict | bool):
            raise bad_field(f"{path}.properties.{name}", "it must be a schema")
    required = schema.items("required", 1024) or []
    if not all(isinstance(name, str) for name in required):
        raise schema.bad("required", "it must be a list of names")
