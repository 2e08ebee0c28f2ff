"""Messages and tools of a chat request, checked and in the form that chat templates expect of Hugging Face."""

import json
import re
from typing import Any

from moedge.edge_server.call_ids import decode_id
from moedge.edge_server.fields import Fields, bad_field

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_SCHEMA = 64 << 10  # bytes of one tool's JSON
MAX_TEXT = 1 << 20  # characters; the template's output is bounded again
ROLES = ("system", "developer", "user", "assistant", "tool")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Message = dict[str, Any]
Tool = dict[str, Any]


def read_messages(data: Any) -> tuple[Message, ...]:
    """Every message with role and content as a string; ApiError 400 names the field that does not fit."""
    if not isinstance(data, list) or not data:
        raise bad_field("messages", "it must be a list of at least one message")
    if len(data) > MAX_MESSAGES:
        raise bad_field("messages", f"it has {len(data)} messages, at most {MAX_MESSAGES} are accepted")
    return tuple(_message(Fields(item, f"messages[{i}]")) for i, item in enumerate(data))


def _message(fields: Fields) -> Message:
    role = fields.take("role")
    if role not in ROLES:
        raise fields.bad("role", f"it must be one of {', '.join(ROLES)}")
    # what OpenAI calls developer, every template here calls system
    message: Message = {"role": "system" if role == "developer" else role}
    calls = _tool_calls(fields) if role == "assistant" else []
    message["content"] = _content(fields, optional=bool(calls))
    if (name := fields.text("name", 64)) is not None:
        message["name"] = name
    if role == "assistant":
        if (reasoning := fields.text("reasoning_content", MAX_TEXT)) is not None:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        fields.ignore(("annotations",))  # SDKs send back what they received
        fields.only("refusal")
        fields.only("audio")
        fields.only("function_call")
    if role == "tool":
        message["tool_call_id"] = decode_id(fields.required_text("tool_call_id", 256))
    fields.done()
    return message


def _content(fields: Fields, optional: bool) -> str:
    value = fields.take("content")
    if isinstance(value, list):
        return "".join(_part(Fields(part, f"{fields.path('content')}[{i}]")) for i, part in enumerate(value))
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise fields.bad("content", "it must be a string or a list of text parts")
    return value


def _part(fields: Fields) -> str:
    fields.only("type", "text")
    text = fields.required_text("text", MAX_TEXT)
    fields.done()
    return text


def _tool_calls(fields: Fields) -> list[dict[str, Any]]:
    calls = fields.items("tool_calls", MAX_TOOLS) or []
    return [_tool_call(Fields(call, f"{fields.path('tool_calls')}[{i}]")) for i, call in enumerate(calls)]


def _tool_call(fields: Fields) -> dict[str, Any]:
    fields.only("type", "function")
    identifier = decode_id(fields.required_text("id", 256))
    fields.ignore(("index",))  # left over from a stream
    function = Fields(fields.take("function"), fields.path("function"))
    name = function.required_text("name", 256)
    arguments = function.required_text("arguments", MAX_TEXT)
    function.done()
    fields.done()
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def read_tools(data: list[Any] | None) -> tuple[Tool, ...]:
    """The tools as they were sent, for the model to read; ApiError 400 if one is not a function with a schema."""
    tools = tuple(_tool(Fields(item, f"tools[{i}]"), item) for i, item in enumerate(data or []))
    names = [tool["function"]["name"] for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise bad_field(f"tools[{i}].function.name", f"{name} is there twice")
    return tools


def _tool(fields: Fields, sent: Any) -> Tool:
    if fields.take("type") != "function":
        raise fields.bad("type", 'it must be "function"')
    function = Fields(fields.take("function"), fields.path("function"))
    fields.done()
    if not NAME.fullmatch(function.required_text("name", 64)):
        raise function.bad("name", "it must be letters, digits, dots, underscores and dashes")
    function.text("description", MAX_SCHEMA)
    function.only("strict", False)
    _check_schema(function)
    function.done()
    if len(json.dumps(sent, ensure_ascii=False).encode()) > MAX_SCHEMA:
        raise bad_field(fields.where, f"it has more than {MAX_SCHEMA} bytes of JSON")
    return dict(sent)


def _check_schema(function: Fields) -> None:
    """The outline of a JSON Schema for arguments; the model reads the rest as text."""
    value = function.take("parameters")
    if value is None:
        return
    path = function.path("parameters")
    schema = Fields(value, path)
    if schema.take("type") not in (None, "object"):
        raise schema.bad("type", 'it must be "object", arguments have names')
    properties = schema.take("properties")
    named = Fields({} if properties is None else properties, f"{path}.properties").everything()
    for name, property_ in named.items():
        if not isinstance(property_, dict | bool):
            raise bad_field(f"{path}.properties.{name}", "it must be a schema")
    required = schema.items("required", 1024) or []
    if not all(isinstance(name, str) for name in required):
        raise schema.bad("required", "it must be a list of names")
