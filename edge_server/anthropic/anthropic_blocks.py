"""The blocks of one message in Anthropic's form, read one by one: text, thinking, calls and their results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moedge.edge_server.anthropic.anthropic_ids import own_call_id
from moedge.edge_server.anthropic.anthropic_signatures import hidden_thought
from moedge.edge_server.fields import Fields, bad_field, bounded_text, objects_in
from moedge.edge_server.messages import MAX_TEXT

MOST_BLOCKS = 4096  # of one message
PROMPT, RESULT = "system prompt", "tool_result"  # whose blocks are no message's
# which blocks stand where: in a message of each role, and in these two
HOLDS = {
    PROMPT: ("text",),
    "system": ("text", "tool_addition", "tool_removal"),
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    RESULT: ("text", "tool_reference"),
}


@dataclass(frozen=True)
class TextPart:
    """What somebody says."""

    text: str


@dataclass(frozen=True)
class ThoughtPart:
    """What an answer thinks, "" where nobody can read it."""

    text: str


@dataclass(frozen=True)
class CallPart:
    """A call that an answer makes; `id` as the client knows it."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def own_id(self) -> str:
        """The id as the model wrote it."""
        return own_call_id(self.id)


@dataclass(frozen=True)
class ToolChange:
    """From here on a declared tool may be called, or may not any more."""

    name: str
    offered: bool


@dataclass(frozen=True)
class ResultPart:
    """What a call, known by its id, gave: a text, and tools that were found."""

    call_id: str
    text: str
    found: tuple[ToolChange, ...]
    where: str  # it stands in the body


MessagePart = TextPart | ThoughtPart | CallPart | ToolChange | ResultPart


def read_content(value: Any, where: str, role: str) -> list[MessagePart]:
    """The parts of a message, or of one of `HOLDS`: `value` is a text or a list of blocks; ApiError 400."""
    if isinstance(value, str):
        return [TextPart(bounded_text(value, where, MAX_TEXT))] if value else []
    if not isinstance(value, list):
        raise bad_field(where, "it must be a string or a list of blocks")
    if len(value) > MOST_BLOCKS:
        raise bad_field(where, f"it has {len(value)} blocks, at most {MOST_BLOCKS} are accepted")
    return [_part(each, role) for each in objects_in(value, where)]


def text_of(parts: Sequence[MessagePart]) -> str:
    """Blocks of text one under the other."""
    joined = ""
    for part in parts:
        if isinstance(part, TextPart):
            seam = joined and part.text and not joined.endswith("\n") and not part.text.startswith("\n")
            joined += f"\n{part.text}" if seam else part.text
    return joined


def _part(block: Fields, role: str) -> MessagePart:
    kind = block.take("type")
    _check_kind(block, kind, role)
    block.ignore(("cache_control",))
    part: MessagePart
    match kind:
        case "text":
            part = TextPart(block.required_text("text", MAX_TEXT))
            block.ignore(("citations",))  # of an earlier answer; no template shows them
        case "thinking":
            part = _thinking(block)
        case "redacted_thinking":
            block.required_text("data", MAX_TEXT)
            part = ThoughtPart("")
        case "tool_use":
            part = _call(block)
        case "tool_reference":
            part = ToolChange(block.required_text("tool_name", 128), True)
        case "tool_addition" | "tool_removal":
            part = _change(block, kind == "tool_addition")
        case _:
            part = _result(block)
    block.done()
    return part


def _check_kind(block: Fields, kind: Any, role: str) -> None:
    if kind in HOLDS[role]:
        return
    taken = ", ".join(HOLDS[role])
    if any(kind in kinds for kinds in HOLDS.values()):
        reason = f"{kind} does not stand in {role}, whose blocks are {taken}"
    elif isinstance(kind, str):
        reason = f"{kind[:64]!r} is not supported; this server reads text alone, in blocks of {taken}"
    else:
        reason = f"it must be one of {taken}"
    raise bad_field(block.path("type"), reason, code="unsupported_parameter")


def _change(block: Fields, offered: bool) -> ToolChange:
    tool = block.inner("tool")
    tool.only("type", "tool_reference")
    name = tool.required_text("name", 128)
    tool.done()
    return ToolChange(name, offered)


def _thinking(block: Fields) -> ThoughtPart:
    thought = block.required_text("thinking", MAX_TEXT)
    hidden = hidden_thought(block.text("signature", 2 * MAX_TEXT) or "")
    if hidden is None:
        raise block.bad("signature", "it was changed: send it as it came")
    return ThoughtPart(thought or hidden)


def _call(block: Fields) -> CallPart:
    identifier, name = block.required_text("id", 256), block.required_text("name", 256)
    arguments = block.take("input")
    if not isinstance(arguments, dict):
        raise block.bad("input", "it must be an object")
    block.only("caller", {"type": "direct"})
    block.only("toolset_name")
    return CallPart(identifier, name, arguments)


def _result(block: Fields) -> ResultPart:
    identifier = block.required_text("tool_use_id", 256)
    content = block.take("content")
    parts = [] if content is None else read_content(content, block.path("content"), RESULT)
    found = tuple(part for part in parts if isinstance(part, ToolChange))
    text = text_of([TextPart(part.name) if isinstance(part, ToolChange) else part for part in parts])
    if block.flag("is_error"):  # no template has a place for it
        text = f"Error: {text}" if text else "Error"
    block.only("toolset_name")
    return ResultPart(identifier, text, found, block.where)
