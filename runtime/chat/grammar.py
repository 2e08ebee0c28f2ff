"""What a chat format is, as data: the markers, what each leads to, and how the text of a call is read.

A format's own data is a file of its own (formats/kimi_k2.py, formats/glm.py …); the one machine that runs them all is
parser.py. Nothing here reads a stream.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any

from moedge.runtime.chat.markers import Markers
from moedge.runtime.chat.opening import Pattern
from moedge.runtime.chat.scans import HeaderScan, Scan

THINK, END_THINK = "<think>", "</think>"
RESPONSE_TAGS = ("<response>", "</response>")


class At(Enum):
    """Where in an answer the next text stands."""

    # nothing but blanks so far; the first other text that begins no marker decides
    START = auto()  # of the answer: text goes on as content, blanks before it too
    THOUGHT = auto()  # of thinking, whose leading newlines are layout
    REPLY = auto()  # of content between tags of its own, whose leading newlines are layout
    AFTER = auto()  # behind thinking or a call: leading newlines are layout
    INSIDE = auto()  # behind a call, whose own end or that of its section may be still to come: likewise
    # delivered while it comes
    THINKING = auto()
    CONTENT = auto()
    RESPONSE = auto()  # content between tags of its own
    LOOSE = auto()  # content behind a call that was not ended
    REFUSED = auto()  # content from what looks like a call on, whose end is text too; that of the section is not
    ARGUMENTS = auto()  # of a call, as the model writes them

    __hash__ = object.__hash__  # looked up at each push; Enum's own hashes the name, in Python


@dataclass(frozen=True)
class WrittenCall:
    """A call as it was read: `arguments` is JSON text, "" if none were written; no id where the format has none.

    Where a format does not tell texts from other values, `arguments` are the texts that were written, by name.
    """

    name: str
    arguments: str | Mapping[str, str] = ""
    id: str | None = None


Body = tuple[list[WrittenCall], str]  # the calls that a text begins with, and the rest of it


@dataclass(frozen=True)
class HeaderForm:
    """What begins with a header, from its marker on: a call whose arguments follow if it does not hold them, or text.

    `read`: the call, the state that the header leads to, or None if it is neither. A group `bare` in the match says
    that no arguments follow. `messages`: it is not calls alone.
    """

    pattern: Pattern
    read: Callable[[re.Match[str]], WrittenCall | At | None]
    messages: bool = False
    whole = True  # it begins with its marker

    def scan(self) -> HeaderScan:
        """A fresh search for the header's end."""
        return HeaderScan(self.pattern)


@dataclass(frozen=True)
class BodyForm:
    """Calls that are understood as a whole. `scan` finds their end, `read` says what they are: None if no calls."""

    scan: Callable[[], Scan]
    read: Callable[[str], Body | None]
    whole: bool = False  # the marker is the first text of the body


Form = HeaderForm | BodyForm
Forms = tuple[Form, ...]  # in the order in which they are tried; where none fits, the marker is text
Openers = Mapping[str, Forms]


@dataclass(frozen=True)
class Table:
    """The markers that count in one state."""

    markers: Markers
    leads: Mapping[str, At | Forms]


@dataclass(frozen=True)
class Grammar:
    """One chat format. A marker that holds another one of the same state must end in it."""

    # in each state, the markers that count and where each leads; other markers are text there
    steps: Mapping[At, Mapping[str, At | Forms]]
    think: str = ""  # what opens thinking: a prompt that ends with it has opened it already
    thought_name: str = ""  # what may stand behind it, and is no thinking
    ends: tuple[str, ...] = ()  # what ends a turn: at the very end of an answer it is no text of it
    words: Mapping[str, Any] = field(default_factory=dict)  # values beside JSON's, of arguments written as texts
    refused: At = At.CONTENT  # where text goes on behind a marker that follows a call and begins none itself
    unread: At | None = None  # where the text of a message goes on whose header is understood and refused
    fence: str = ""  # what may stand between arguments and the marker that ends them
    joint: str = ""  # what parts two messages of one kind in one answer
    counts: bool = False  # a call may be named by its number alone

    @property
    def calls_tools(self) -> bool:
        """Whether an answer may hold tool calls."""
        return any(not isinstance(lead, At) for steps in self.steps.values() for lead in steps.values())

    def begin(self, prompt_end: str) -> At:
        """Where an answer begins: in thinking, if the prompt ends in the tag that opens it."""
        thinking = bool(self.think) and prompt_end.rstrip().removesuffix(self.thought_name).endswith(self.think)
        lead = self.steps[At.START][self.think] if thinking else At.START
        first = lead if isinstance(lead, At) else At.THOUGHT
        return first if first in self.steps else At.CONTENT

    @cached_property
    def turn_ends(self) -> Markers:
        """What ends a turn, with a letter that never comes: a whole one waits until it is known to be the last text."""
        return Markers([f"{end}\0" for end in self.ends])

    @cached_property
    def thought_ends(self) -> frozenset[str]:
        """The tags that close thinking; none where it ends with its message."""
        steps = self.steps.get(At.THINKING, {}) if self.think else {}
        return frozenset(mark for mark, lead in steps.items() if isinstance(lead, At))

    def table(self, at: At, calls: bool, doubt: bool) -> Table:
        """The markers of a state: without `calls` none that begins one, in `doubt` also those that end thinking."""
        return self._tables[at, calls, doubt]

    @cached_property
    def _tables(self) -> dict[tuple[At, bool, bool], Table]:
        ends = {mark: self.steps[At.THINKING][mark] for mark in self.thought_ends}
        tables = {}
        for at, steps in self.steps.items():
            silent = {mark: lead for mark, lead in steps.items() if isinstance(lead, At) or _messages(lead)}
            for calls, leads in ((True, steps), (False, silent)):
                tables[at, calls, False] = Table(Markers(leads), leads)
                tables[at, calls, True] = Table(Markers({**ends, **leads}), {**ends, **leads})
        return tables


def _messages(forms: Forms) -> bool:
    return any(isinstance(form, HeaderForm) and form.messages for form in forms)


def thinking_steps(
    calls: Openers, think: str = THINK, end: str = END_THINK, opens: At | Forms = At.THOUGHT
) -> dict[At, Mapping[str, At | Forms]]:
    """Thinking at the start of an answer at most, then content; `calls` are the markers that lead to calls.

    Newlines beside the tags are layout in the templates. `opens` is where the first tag leads; more may belong to it.
    """
    return {
        At.START: {think: opens, **calls},
        At.THOUGHT: {think: opens, end: At.AFTER, **calls},  # the prompt may have opened it already
        At.THINKING: {f"\n{end}": At.AFTER, end: At.AFTER, **calls},
        At.CONTENT: dict(calls),
        At.AFTER: dict(calls),
    }


def response_steps(
    calls: Openers, think: tuple[str, str] = (THINK, END_THINK), tags: Sequence[tuple[str, str]] = (RESPONSE_TAGS,)
) -> dict[At, Mapping[str, At | Forms]]:
    """Those of `thinking_steps`, and content that may stand between tags of its own, newlines beside them layout."""
    thinking = thinking_steps(calls, *think)
    begins = dict.fromkeys((begin for begin, _ in tags), At.REPLY)
    ends = dict.fromkeys((f"{layout}{end}" for _, end in tags for layout in ("\n", "")), At.AFTER)
    response: Mapping[str, At | Forms] = {**ends, **calls}
    return {
        **thinking,
        At.START: {**thinking[At.START], **begins},
        At.AFTER: {**thinking[At.AFTER], **begins},
        At.REPLY: response,
        At.RESPONSE: response,
    }


def behind_calls(calls: Openers, ends: Mapping[str, At], more: Openers) -> dict[At, Mapping[str, At | Forms]]:
    """Behind a call: `ends` closes it, behind other text too, and `more` begins a call between the same tags."""
    late = {f"\n{end}": at for end, at in ends.items()}
    return {At.INSIDE: {**ends, **calls, **more}, At.LOOSE: {**ends, **late, **calls}}
