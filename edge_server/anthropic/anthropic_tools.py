"""The tools of a request in Anthropic's form, put into the one that templates read, and which of them may be called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import (
    MAX_SCHEMA,
    MAX_TOOLS,
    Tool,
    check_schema,
    check_tool_names,
    check_tool_size,
)
from moedge.edge_server.tool_choice import declared_tools, strict_tools

TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
WISHES = ("cache_control", "eager_input_streaming")  # how the input streams: members come when they are complete


@dataclass(frozen=True)
class OfferedTools:
    """The `tools` that may be called, at most so many times, and whether one must be.

    `declared` are the names of all that the request has, `strict` of those that are held to all of their schema.
    """

    tools: tuple[Tool, ...]
    most_calls: int | None
    must_call: bool
    declared: tuple[str, ...]
    strict: frozenset[str]


def read_anthropic_tools(fields: Fields, offered: Mapping[str, bool]) -> OfferedTools:
    """`tools` and `tool_choice`; ApiError 400 names what does not fit.

    A tool whose loading is deferred is shown once the conversation has `offered` it, others until it takes them back.
    """
    shown: list[Tool] = []
    for item in fields.objects("tools", MAX_TOOLS):
        tool, deferred = _tool(item)
        if offered.get(tool["function"]["name"], not deferred):
            shown.append(tool)
    declared = declared_tools(fields)
    check_tool_names(declared, "name")
    if unknown := offered.keys() - set(declared):
        raise bad_field("messages", f"they speak of a tool {min(unknown)[:64]!r} that is not among the tools")
    choice = fields.inner("tool_choice", {"type": "auto"})
    tools, must_call = _read_choice(choice, shown)
    most_calls = 1 if choice.flag("disable_parallel_tool_use") else None
    choice.done()
    return OfferedTools(tools, most_calls, must_call, declared, strict_tools(fields))


def _read_choice(choice: Fields, shown: Sequence[Tool]) -> tuple[tuple[Tool, ...], bool]:
    """Which tools may be called, and whether one must be."""
    kind = choice.take("type")
    if kind == "tool":
        name = choice.required_text("name", 128)
        named = tuple(tool for tool in shown if tool["function"]["name"] == name)
        if not named:
            raise choice.bad("name", f"there is no tool {name!r}")
        return named, True
    if kind not in ("auto", "any", "none"):
        raise choice.bad("type", "it must be auto, any, tool or none")
    if kind == "any" and not shown:
        raise choice.bad("type", "it requires a call, and there are no tools")
    return () if kind == "none" else tuple(shown), kind == "any"


def _tool(fields: Fields) -> tuple[Tool, bool]:
    """A tool, and whether its loading is deferred."""
    kind = fields.take("type")
    if kind not in (None, "custom"):
        shown = f"{kind[:64]!r}" if isinstance(kind, str) else "this"
        reason = f"{shown} is a tool of Anthropic's own that this server has not; declare one with an input_schema"
        raise bad_field(fields.path("type"), reason, code="unsupported_parameter")
    name = fields.required_text("name", 128)
    if not TOOL_NAME.fullmatch(name):
        raise fields.bad("name", "it must be letters, digits, dots, underscores and dashes")
    description = fields.text("description", MAX_SCHEMA)
    check_schema(fields, "input_schema")
    schema = fields.take("input_schema")
    if schema is None:
        raise fields.bad("input_schema", "it is required")
    examples = fields.items("input_examples", 64)
    if examples:
        schema = {**schema, "examples": examples}  # JSON Schema's own place for them
    deferred = fields.flag("defer_loading")
    fields.only("allowed_callers", [], ["direct"])
    fields.flag("strict")
    fields.ignore(WISHES)
    fields.done()
    described = {} if description is None else {"description": description}
    tool = {"type": "function", "function": {"name": name, **described, "parameters": schema}}
    check_tool_size(tool, fields.where)
    return tool, deferred
