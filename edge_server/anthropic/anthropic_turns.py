"""A conversation in Anthropic's form, put into the one that templates read.

Messages in a row of one role are one turn. The calls of an answer must have their results at the start of the next
turn, as there; what a block is, anthropic_blocks.py reads.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moedge.edge_server.anthropic.anthropic_blocks import (
    PROMPT,
    CallPart,
    MessagePart,
    ResultPart,
    TextPart,
    ThoughtPart,
    ToolChange,
    read_content,
    text_of,
)
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import MAX_MESSAGES, Message

ROLES = ("user", "assistant", "system")


@dataclass
class SpokenTurn:
    """What one side says before the other does; `where` it begins in the body."""

    role: str
    parts: list[MessagePart]
    where: str

    @property
    def text(self) -> str:
        """What is said, without thinking and calls; the pieces of an answer belong together as they are."""
        if self.role == "assistant":
            return "".join(part.text for part in self.parts if isinstance(part, TextPart))
        return text_of(self.parts)

    @property
    def calls(self) -> list[CallPart]:
        """The calls that are made."""
        return [part for part in self.parts if isinstance(part, CallPart)]


@dataclass(frozen=True)
class ReadConversation:
    """`messages` with the system prompt first; where it `continues`, the last of them is an answer to go on with.

    `offered` says of tools whether they may be called at its end, where something in it has changed that.
    """

    messages: tuple[Message, ...]
    continues: bool
    offered: Mapping[str, bool]


def read_conversation(fields: Fields) -> ReadConversation:
    """`system` and `messages` of a request; ApiError 400 names what does not fit.

    Most templates have a place for one system prompt, at the start: what is said there later goes into the user's turn.
    """
    value = fields.take("system")
    system = [] if value is None else read_content(value, "system", PROMPT)
    spoken = _turns(fields.items("messages", MAX_MESSAGES), system)
    if len(spoken) > 1 and spoken[-1].role == "assistant" and not spoken[-1].parts:
        spoken.pop()  # an answer that has not begun
    messages: list[Message] = []
    if prompt := text_of(system):
        messages.append({"role": "system", "content": prompt})
    calls: Sequence[CallPart] = ()
    for turn in spoken:
        messages += _messages(turn, calls)
        calls = turn.calls
    if calls:
        raise _unanswered(spoken[-1].where, calls[0].id)
    parts = [*system, *(part for turn in spoken for part in turn.parts)]
    changes = [change for part in parts for change in (part.found if isinstance(part, ResultPart) else (part,))]
    offered = {change.name: change.offered for change in changes if isinstance(change, ToolChange)}
    continues = spoken[-1].role == "assistant" and _check_begun(spoken[-1])
    return ReadConversation(tuple(messages), continues, offered)


def _turns(data: list[Any] | None, system: list[MessagePart]) -> list[SpokenTurn]:
    """The turns; what is said before them by the role system is added to `system`."""
    if not data:
        raise bad_field("messages", "it must be a list of at least one message")
    spoken: list[SpokenTurn] = []
    latest = max((i for i, item in enumerate(data) if isinstance(item, dict) and item.get("role") == "user"), default=0)
    for i, item in enumerate(data):
        message = Fields(item, f"messages[{i}]")
        role = message.take("role")
        if role not in ROLES:
            raise message.bad("role", f"it must be one of {', '.join(ROLES)}")
        parts = read_content(message.take("content"), message.path("content"), role)
        if role == "system":
            parts = _kept(message, parts, i < latest)
        message.done()
        if not parts and role == "user":
            raise message.bad("content", "it is empty")
        if role == "system" and not spoken:
            system += parts
            continue
        side = "user" if role == "system" else role
        if spoken and spoken[-1].role == side:
            spoken[-1].parts += parts
        elif parts or role == "assistant":
            spoken.append(SpokenTurn(side, parts, message.where))
    if not spoken:
        raise bad_field("messages", "it needs a message of role user")
    return spoken


def _kept(message: Fields, parts: list[MessagePart], over: bool) -> list[MessagePart]:
    """What counts of a message of the role system; its text may be for one turn, which is `over` or not."""
    until = message.word("clear_at", ("never", "next_user_message"))
    message.only("output_config", {})
    gone = over and until == "next_user_message"
    return [part for part in parts if not (gone and isinstance(part, TextPart))]


def _messages(turn: SpokenTurn, calls: Sequence[CallPart]) -> Iterator[Message]:
    """The messages of a turn that follows these calls."""
    if turn.role == "user":
        yield from _results(turn, calls)
        if any(isinstance(part, TextPart) for part in turn.parts):
            yield {"role": "user", "content": turn.text}
        return
    if calls:
        raise _unanswered(turn.where, calls[0].id)
    message: Message = {"role": turn.role, "content": turn.text}
    if thought := "\n".join(part.text for part in turn.parts if isinstance(part, ThoughtPart) and part.text):
        message["reasoning_content"] = thought
    if turn.calls:
        _check_unlike(turn)
        message["tool_calls"] = [_call_json(call) for call in turn.calls]
    yield message


def _results(turn: SpokenTurn, calls: Sequence[CallPart]) -> Iterator[Message]:
    """The results, which stand before all else and answer each call once."""
    open_ = {call.id: call for call in calls}
    leading = True
    for part in turn.parts:
        if not isinstance(part, ResultPart):
            leading = False
            continue
        if not leading:
            raise bad_field(part.where, "results of calls must come before all other content of a turn")
        call = open_.pop(part.call_id, None)
        if call is None:
            reason = "the answer before it has no open call of that id"
            raise bad_field(f"{part.where}.tool_use_id", f"{part.call_id[:64]!r}: {reason}")
        yield {"role": "tool", "content": part.text, "tool_call_id": call.own_id, "name": call.name}
    if open_:
        raise _unanswered(turn.where, next(iter(open_)))


def _unanswered(where: str, call_id: str) -> ApiError:
    return bad_field(where, f"the call {call_id[:64]!r} needs its tool_result at the start of the next message")


def _check_unlike(turn: SpokenTurn) -> None:
    ids = [call.id for call in turn.calls]
    for i, identifier in enumerate(ids):
        if identifier in ids[:i]:
            raise bad_field(turn.where, f"two calls have the id {identifier[:64]!r}")


def _call_json(call: CallPart) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.own_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _check_begun(turn: SpokenTurn) -> bool:
    if not turn.text.strip():
        raise bad_field(turn.where, "an answer to continue must have begun with text")
    if turn.text[-1:].isspace():
        raise bad_field(turn.where, "an answer to continue must not end in blanks")
    return True
