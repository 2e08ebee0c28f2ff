"""Tools of a response and which of them may be called, put into the words of a chat.

A custom tool, which takes a text, is shown to the model as a function of one argument, the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import MAX_SCHEMA, MAX_TOOLS
from moedge.edge_server.replies import Json
from moedge.edge_server.responses.responses_context import CUSTOM_INPUT

CHOICES = ("auto", "none", "required")


@dataclass(frozen=True)
class ResponseTools:
    """What tools a request has. `shown` is for the answer, `chat` and `chat_choice` are as a chat says them."""

    shown: tuple[Json, ...]
    choice: Any
    chat: tuple[Json, ...]
    chat_choice: Any
    custom: frozenset[str]  # names


def read_response_tools(fields: Fields) -> ResponseTools:
    """`tools` and `tool_choice`; ApiError 400 for tools that the server would have to run itself."""
    tools = [_tool(each) for each in fields.objects("tools", MAX_TOOLS)]
    choice = fields.take("tool_choice")
    shown = tuple(shown for shown, _ in tools)
    custom = frozenset(tool["name"] for tool in shown if tool["type"] == "custom")
    chat_choice = None if choice is None else _choice(choice, shown)
    return ResponseTools(shown, choice or "auto", tuple(chat for _, chat in tools), chat_choice, custom)


def _tool(fields: Fields) -> tuple[Json, Json]:
    """A tool as the answer repeats it and as a chat has it."""
    kind = fields.take("type")
    if kind not in ("function", "custom"):
        reason = "it must be function or custom; no tool is run by this server"
        raise bad_field(fields.path("type"), reason, code="unsupported_parameter")
    function: Json = {"name": fields.required_text("name", 64)}
    if (description := fields.text("description", MAX_SCHEMA)) is not None:
        function["description"] = description
    shown: Json = {"type": kind, **function}
    if kind == "function":
        told = {name: fields.take(name) for name in ("parameters", "strict")}
        function |= {name: value for name, value in told.items() if value is not None}
        shown |= told
    else:
        shown["format"], text = _input_format(fields)
        function |= {"parameters": _parameters_of(text), "strict": "pattern" in text}
    fields.only("allowed_callers", ["direct"])
    for name in ("defer_loading", "async"):
        fields.only(name, False)
    fields.only("output_schema")
    fields.done()
    return shown, {"type": "function", "function": function}


def _input_format(fields: Fields) -> tuple[Json, Json]:
    """What form a custom tool's text has, as the answer repeats it, and as a JSON schema."""
    form = fields.inner("format", {"type": "text"})
    kind = form.take("type")
    if kind == "text":
        form.done()
        return {"type": kind}, {"type": "string"}
    if kind != "grammar":
        raise form.bad("type", "it must be text or grammar")
    form.only("syntax", "regex")  # a grammar has no place within the JSON of a call
    regex = form.required_text("definition", MAX_SCHEMA)
    form.done()
    return {"type": kind, "syntax": "regex", "definition": regex}, {"type": "string", "pattern": f"^(?:{regex})$"}


def _parameters_of(text: Json) -> Json:
    return {
        "type": "object",
        "properties": {CUSTOM_INPUT: text},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }


def _choice(choice: object, tools: Sequence[Json]) -> Any:
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise bad_field("tool_choice", f"it must be one of {', '.join(CHOICES)}, or name a tool")
        return choice
    fields = Fields(choice, "tool_choice")
    if fields.take("type") != "allowed_tools":
        return _named(fields, tools)
    mode = fields.take("mode")
    listed = fields.objects("tools", MAX_TOOLS)
    fields.done()
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [_named(each, tools) for each in listed]}}


def _named(fields: Fields, tools: Sequence[Json]) -> Json:
    """One of the tools, as a chat names it."""
    kind = fields.take("type")
    if kind not in ("function", "custom"):
        reason = "it must name a function, a custom tool or allowed_tools"
        raise bad_field(fields.path("type"), reason, code="unsupported_parameter")
    name = fields.required_text("name", 64)
    fields.done()
    if not any(tool["type"] == kind and tool["name"] == name for tool in tools):
        raise fields.bad("name", f"there is no {kind} tool {name!r}")
    return {"type": "function", "function": {"name": name}}
