"""Which of a request's tools may be called, and whether one must be: `tool_choice`, in the spellings of OpenAI's like.

The model is shown no other tool than may be called.
"""

from collections.abc import Sequence
from typing import Any

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import MAX_TOOLS, Tool
from moedge.edge_server.questions import ModelLimits

MODES = ("auto", "none", "required", "any")  # "any" is Mistral's and LangChain's word for "required"


def choose_tools(fields: Fields, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The tools that may be called; ApiError 400 for a choice that names none of them."""
    choice = fields.take("tool_choice")
    if choice is None or choice == "auto":
        return tools
    if choice == "none":
        return ()
    if isinstance(choice, dict):
        return _named(Fields(choice, "tool_choice"), tools)
    if choice not in MODES:
        raise bad_field(
            "tool_choice", f"it must be one of {', '.join(MODES)}, or name a function", "unsupported_parameter"
        )
    if not tools:
        raise bad_field("tool_choice", "it requires a call, and there are no tools")
    return tools


def check_callable(tools: Sequence[Tool], limits: ModelLimits) -> None:
    """ApiError 400 if there are tools, and the model calls none."""
    if tools and not limits.calls_tools:
        raise bad_field("tools", "this model does not call tools", code="unsupported_parameter")


def must_call(fields: Fields) -> bool:
    """Whether a choice that `choose_tools` took requires a call."""
    choice = fields.take("tool_choice")
    if not isinstance(choice, dict):
        return choice in ("required", "any")
    allowed = choice.get("allowed_tools")
    return choice.get("type") == "function" or (isinstance(allowed, dict) and allowed.get("mode") == "required")


def declared_tools(fields: Fields) -> tuple[str, ...]:
    """The names of all tools, checked before, in their order."""
    return tuple(tool.get("function", tool)["name"] for tool in fields.take("tools") or ())


def strict_tools(fields: Fields) -> frozenset[str]:
    """The names of the tools, checked before, that are to be held to all of their schema or refused."""
    found = []
    for tool in fields.take("tools") or ():
        function = tool.get("function", tool)
        if function.get("strict") is True:
            found.append(function["name"])
    return frozenset(found)


def _named(choice: Fields, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """Of `{"type": "function", ...}` the one tool, of `{"type": "allowed_tools", ...}` those that it lists."""
    kind = choice.take("type")
    if kind == "function":
        chosen = [_one(choice, tools)]
    elif kind == "allowed_tools":
        allowed = choice.inner("allowed_tools")
        if allowed.take("mode") not in ("auto", "required"):
            raise allowed.bad("mode", "it must be auto or required")
        listed = allowed.objects("tools", MAX_TOOLS)
        allowed.done()
        chosen = [_one(_typed(item), tools) for item in listed]
    else:
        raise choice.bad("type", "it must be function or allowed_tools")
    choice.done()
    return tuple(tool for tool in tools if tool in chosen)


def _typed(item: Fields) -> Fields:
    if item.take("type") != "function":
        raise item.bad("type", 'it must be "function"')
    return item


def _one(choice: Fields, tools: tuple[Tool, ...]) -> Tool:
    function = choice.inner("function")
    name = function.required_text("name", 64)
    function.done()
    choice.done()
    found: dict[str, Any] = {tool["function"]["name"]: tool for tool in tools}
    if name not in found:
        raise function.bad("name", f"there is no tool {name!r}")
    tool: Tool = found[name]
    return tool
