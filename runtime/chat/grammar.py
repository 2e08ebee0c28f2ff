"""What a chat format is, as data: the markers, what each leads to, and how the text of a call is read.

A format's own data is a file of its own (formats/kimi_k2.py, formats/glm.py …); the one machine that runs them all is
parser.py. Nothing here reads a stream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

THINK, END_THINK = "<think>", "</think>"
RESPONSE, END_RESPONSE = "<response>", "</response>"


class At(Enum):
    """Where in an answer the next text stands."""

    # nothing but blanks so far; the first other text that begins no marker decides
    START = auto()  # of the answer: text goes on as content, blanks before it too
    THOUGHT = auto()  # of thinking, whose leading newlines are layout
    REPLY = auto()  # of content between tags of its own, whose leading newlines are layout
    AFTER = auto()  # behind thinking or a call: leading newlines are layout
    OPEN = auto()  # behind the marker of a call: its first character tells which form follows
    # delivered while it comes
    THINKING = auto()
    CONTENT = auto()
    RESPONSE = auto()  # content between tags of its own
    ARGUMENTS = auto()  # of a call, as the model writes them
    # understood only as a whole, at the marker that ends it
    SECTION = auto()  # between the calls of a section: blanks are layout
    HEADER = auto()  # before the arguments of a call, or before a message
    BODY = auto()  # a call or several, name and arguments in one
    BARE = auto()  # a body that lacks the tags around it, so that it ends at other markers


@dataclass(frozen=True)
class WrittenCall:
    """A call as it was read: `arguments` is JSON text, "" if none were written; no id where the format has none.

    Where a format does not tell texts from other values, `arguments` are the texts that were written, by name.
    """

    name: str
    arguments: str | Mapping[str, str] = ""
    id: str | None = None


Steps = Mapping[At, Mapping[str, At]]
Body = tuple[list[WrittenCall], str]  # the calls that a text begins with, and the rest of it


def _no_header(text: str) -> WrittenCall | At | None:
    return None


def _no_body(text: str) -> Body | None:
    return None


@dataclass(frozen=True)
class Grammar:
    """One chat format. A marker that holds another one of the same state must end in it."""

    steps: Steps  # in each state, the markers that count and where each leads; other markers are text there
    think: str = ""  # what opens thinking: a prompt that ends with it has opened it already
    ends: tuple[str, ...] = ()  # what ends a turn: at the very end of an answer it is no text of it
    kept: frozenset[str] = frozenset()  # markers that are also the first text of what they lead to
    # in OPEN: what the first character leads to, "" for any other; where none fits the marker was text
    first: Mapping[str, At] = field(default_factory=dict)
    header: Callable[[str], WrittenCall | At | None] = _no_header  # a call, a message's state, or neither
    body: Callable[[str], Body | None] = _no_body  # None: it is no call
    words: Mapping[str, Any] = field(default_factory=dict)  # values beside JSON's, of arguments written as texts
    fence: str = ""  # what may stand between arguments and the marker that ends them
    joint: str = ""  # what parts two messages of one kind in one answer

    @property
    def calls_tools(self) -> bool:
        """Whether an answer may hold tool calls."""
        return At.BODY in self.steps or At.ARGUMENTS in self.steps


def thinking_steps(calls: Mapping[str, At], think: str = THINK, end: str = END_THINK) -> dict[At, Mapping[str, At]]:
    """Thinking at the start of an answer at most, then content; `calls` are the markers that lead to calls.

    A call ends open thinking, as models do write that. Newlines beside the tags are layout in the templates.
    """
    return {
        At.START: {think: At.THOUGHT, **calls},
        At.THOUGHT: {think: At.THOUGHT, end: At.AFTER, **calls},  # the prompt may have opened it already
        At.THINKING: {f"\n{end}": At.AFTER, end: At.AFTER, **calls},
        At.CONTENT: dict(calls),
        At.AFTER: dict(calls),
    }


def response_steps(calls: Mapping[str, At]) -> dict[At, Mapping[str, At]]:
    """Those of `thinking_steps`, and content that may stand between tags of its own, newlines beside them layout."""
    thinking = thinking_steps(calls)
    response = {f"\n{END_RESPONSE}": At.AFTER, END_RESPONSE: At.AFTER, **calls}
    return {
        **thinking,
        At.START: {**thinking[At.START], RESPONSE: At.REPLY},
        At.AFTER: {**thinking[At.AFTER], RESPONSE: At.REPLY},
        At.REPLY: response,
        At.RESPONSE: response,
    }
