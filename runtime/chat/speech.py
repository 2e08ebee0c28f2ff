"""The deltas that a parser has decided on, and those that it holds back while a call stands within an open thought."""

import secrets
import string
from dataclasses import dataclass, field

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat.strict_strings import StrictStrings

Kind = type[Reasoning] | type[Content]


@dataclass
class _Doubt:
    written: list[str]  # all text from the first call on
    made: int  # calls before it
    deltas: list[Delta] = field(default_factory=list)  # what the text is if the thought stays open


class Speech:
    """Deltas in the order of the text. `joint` parts two messages of one kind."""

    def __init__(self, joint: str) -> None:
        self._joint = joint
        self._due = ""  # before the next text
        self._spoken: set[Kind] = set()
        self._made = 0
        self._deltas: list[Delta] = []
        self._doubt: _Doubt | None = None
        self._strings = StrictStrings()  # of the arguments of the last call
        self._argued = False  # whether it has any

    @property
    def in_doubt(self) -> bool:
        """Whether what is said now may turn out to be thinking."""
        return self._doubt is not None

    def open_message(self, kind: Kind) -> None:
        """A new message begins."""
        self._due = self._joint if kind in self._spoken else ""

    def say(self, kind: Kind, text: str) -> None:
        """Thinking or content."""
        if text:
            self._spoken.add(kind)
            self._add(kind(self._due + text))
            self._due = ""

    def call(self, name: str, identifier: str | None) -> None:
        """A call begins; its arguments follow."""
        self._add(CallStart(self._made, identifier or _new_id(), name))
        self._made += 1
        self._strings = StrictStrings()
        self._argued = False

    def argue(self, text: str) -> None:
        """More arguments of the last call, as they were written."""
        self._argue(self._strings.push(text))

    def end_arguments(self, broken_off: bool = False) -> None:
        """The last call has no more arguments; one that has none at all calls with `{}`, unless it was broken off."""
        self._argue(self._strings.end())
        self._strings = StrictStrings()
        if not (self._argued or broken_off):
            self._argue("{}")

    def doubt(self, text: str) -> None:
        """A call begins within a thought: what it was written as is kept, in case that the thought is closed later."""
        self._doubt = _Doubt([text], self._made)

    def hear(self, text: str) -> None:
        """More text has come, whatever it is."""
        if self._doubt:
            self._doubt.written.append(text)

    def take_back(self, unread: int, layout: str) -> None:
        """The thought was closed before the last `unread` characters: all since the first call was thinking.

        An end like `layout` is dropped.
        """
        assert self._doubt is not None
        written = "".join(self._doubt.written)
        self._made = self._doubt.made
        self._doubt = None
        self.say(Reasoning, written[: len(written) - unread].removesuffix(layout))

    def deliver(self, last: bool) -> list[Delta]:
        """What is certain and was not delivered yet; all if it is the `last` time."""
        deltas, self._deltas = self._deltas, []
        return deltas + self._doubt.deltas if last and self._doubt else deltas

    def _argue(self, text: str) -> None:
        if text:
            self._argued = True
            self._add(CallArguments(self._made - 1, text))

    def _add(self, delta: Delta) -> None:
        (self._doubt.deltas if self._doubt else self._deltas).append(delta)


def _new_id() -> str:
    # Mistral's templates refuse any other form; all others take what they get
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
