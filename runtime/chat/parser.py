"""The one parser of all chat formats: it walks a grammar (grammar.py) over text that is still arriving.

It never raises on what a model wrote, and only markers and layout are dropped: text that is no call in the end is
delivered where it stood, as content or thinking, with the markers around it.
"""

import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning, find_first, split_safe
from moedge.runtime.chat.grammar import At, Grammar, WrittenCall
from moedge.runtime.chat.strict_strings import StrictStrings
from moedge.runtime.chat.tagged import argument_types, as_json

_BLANK_SO_FAR = {At.START: At.CONTENT, At.AFTER: At.CONTENT, At.THOUGHT: At.THINKING, At.REPLY: At.RESPONSE}
_BODIES = (At.BODY, At.BARE)
_WHOLE = (At.SECTION, At.HEADER, At.OPEN, *_BODIES)
# Where text that turned out to be no call belongs; calls that follow each other inherit it.
_AROUND = {
    At.START: At.CONTENT,
    At.AFTER: At.CONTENT,
    At.CONTENT: At.CONTENT,
    At.REPLY: At.RESPONSE,
    At.RESPONSE: At.RESPONSE,
    At.THOUGHT: At.THINKING,
    At.THINKING: At.THINKING,
}


class GrammarParser:
    """A `ChatParser` that a grammar drives.

    A prompt that ends in an opened thought (`prompt_end`) makes the answer begin in thinking.
    """

    def __init__(self, grammar: Grammar, prompt_end: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._grammar = grammar
        self._types = argument_types(tools)
        self._markers = {at: tuple(steps) for at, steps in grammar.steps.items()}
        # with a letter that never comes, so that a whole one is held back too until it is known to be the last text
        self._ends = tuple(f"{end}\0" for end in grammar.ends)
        thinking = bool(grammar.think) and prompt_end.rstrip().endswith(grammar.think)
        start = At.START if At.START in grammar.steps else At.CONTENT
        self._at = grammar.steps[At.START][grammar.think] if thinking else start
        self._around = At.CONTENT
        self._opener = ""  # the marker before a body, shown again if the body is no call
        self._last = ""  # received; the answer may end in it
        self._held = ""  # received, not yet certain
        self._calls = 0
        self._strings = StrictStrings()  # of the arguments of the last call
        self._spoken: set[type[Delta]] = set()
        self._joint = ""  # due before the next text

    def push(self, text: str) -> list[Delta]:
        text, self._last = split_safe(self._last + text, self._ends)
        return self._read(text)

    def finish(self) -> list[Delta]:
        """The deltas that are left. A call whose header never ended becomes content."""
        last, self._last = self._last, ""
        deltas = [] if last in self._grammar.ends else self._read(last)
        while self._at in _BODIES:
            text, self._held = self._held, ""
            deltas += self._read_body(text, "") + self._read("")
        return deltas + self._close()

    def _read(self, text: str) -> list[Delta]:
        self._held += text
        deltas: list[Delta] = []
        while True:
            if self._at in _BLANK_SO_FAR:
                self._leave_blanks()
            elif self._at is At.OPEN:
                deltas += self._choose()
            if self._at is At.OPEN:  # nothing but blanks
                break
            found = find_first(self._held, self._markers[self._at])
            if found is None:
                break
            self._held = found.marker + found.after if found.marker in self._grammar.kept else found.after
            deltas += self._cross(found.before, found.marker)
        if self._at not in _BLANK_SO_FAR and self._at not in _WHOLE:
            certain, self._held = split_safe(self._held, self._markers[self._at])
            deltas += self._text(certain)
        return deltas

    def _close(self) -> list[Delta]:
        held, self._held = self._held, ""
        if self._at is At.OPEN:
            self._at = self._around
            return self._text(self._opener + held)
        if self._at is At.ARGUMENTS and self._grammar.fence and held.strip() == self._grammar.fence.strip():
            return []
        if self._at in _BLANK_SO_FAR:
            if self._at is not At.START:
                held = _without_layout(held) if held.strip() else ""
            self._at = _BLANK_SO_FAR[self._at]
        return self._text(held) + (self._argue(self._strings.end()) if self._at is At.ARGUMENTS else [])

    def _leave_blanks(self) -> None:
        written = self._held.lstrip()
        if not written or any(m.startswith(written[: len(m)]) for m in self._markers[self._at]):
            return
        if self._at is not At.START:
            self._held = _without_layout(self._held)
        self._at = _BLANK_SO_FAR[self._at]

    def _choose(self) -> list[Delta]:
        """Leave OPEN by the first character; without a fitting form the marker was text like any other."""
        written = self._held.lstrip()
        if not written:
            return []
        at = self._grammar.first.get(written[0], self._grammar.first.get(""))
        self._at = self._around if at is None else at
        return self._text(self._opener) if at is None else []

    def _text(self, text: str) -> list[Delta]:
        """Text between markers, by where it stands."""
        if not text or (self._at in _WHOLE and not text.strip()):
            return []
        if self._at is At.ARGUMENTS:
            return self._argue(self._strings.push(text))
        kind = Reasoning if self._at in (At.THINKING, At.THOUGHT) else Content
        self._spoken.add(kind)
        joint, self._joint = self._joint, ""
        return [kind(joint + text)]

    def _argue(self, text: str) -> list[Delta]:
        return [CallArguments(self._calls - 1, text)] if text else []

    def _cross(self, before: str, marker: str) -> list[Delta]:
        """Read the text before a marker and step over it."""
        target = self._grammar.steps[self._at][marker]
        if self._at in _BODIES:
            return self._read_body(before, marker)
        if self._at is At.HEADER and target in (At.ARGUMENTS, At.SECTION):
            deltas, target = self._read_header(before, target)
        elif self._at in _BLANK_SO_FAR:
            deltas = []  # blanks
        else:
            deltas = self._text(before)
            if self._at is At.ARGUMENTS:
                deltas += self._argue(self._strings.end())
        self._enter(target, marker)
        return deltas

    def _enter(self, target: At, marker: str) -> None:
        if target is At.OPEN or target in _BODIES:
            self._around = _AROUND.get(self._at, self._around)
            self._opener = marker
        self._at = target

    def _read_body(self, text: str, marker: str) -> list[Delta]:
        """Leave a body at a marker, or at the answer's end: its calls, or its text as it was written."""
        target = self._grammar.steps[self._at].get(marker, At.AFTER)
        closer = marker if target is At.AFTER else ""
        # a last value without an end counts if the marker stands behind it, and is cut off if nothing does
        read = self._grammar.body(text) or (self._grammar.body(text + marker) if marker else None)
        if read is not None:
            calls, rest = read[0], read[1].removesuffix(marker)
            self._at = At.AFTER
            deltas = [delta for call in calls for delta in self._start(call)]
            deltas += self._text(_without_layout(rest)) if rest.strip() else []
            self._enter(target, marker)
            return deltas
        self._at = self._around
        text = text.removeprefix(self._opener)  # there, if it is a kept one
        if self._around is not At.CONTENT:  # what is around may end in this very text
            self._held = text + marker + self._held
            return self._text(self._opener)
        deltas = self._text(self._opener + text + closer)
        if not closer:
            self._enter(target, marker)
        return deltas

    def _read_header(self, text: str, target: At) -> tuple[list[Delta], At]:
        """A header, and where to go on. A call without a name becomes content, arguments and all."""
        read = self._grammar.header(text)
        if isinstance(read, At):
            again = (Reasoning if read is At.THINKING else Content) in self._spoken
            self._joint = self._grammar.joint if again else ""
            return [], read
        if read is None:
            outside = At.SECTION if At.SECTION in self._grammar.steps else At.CONTENT
            return self._text(text), outside if target is At.ARGUMENTS else target
        return self._start(read), target

    def _start(self, call: WrittenCall) -> list[Delta]:
        index, self._calls = self._calls, self._calls + 1
        self._around = At.CONTENT  # a call ends open thinking
        start = CallStart(index, call.id or _new_id(), call.name)
        arguments = call.arguments
        self._strings = StrictStrings()
        if isinstance(arguments, str):
            arguments = self._strings.push(arguments)
        else:
            arguments = as_json(arguments, self._types.get(call.name, {}), self._grammar.words)
        return [start, CallArguments(index, arguments)] if arguments else [start]


def _without_layout(text: str) -> str:
    """A text without the blank lines that it begins with."""
    blanks = text[: len(text) - len(text.lstrip())]
    return text[blanks.rfind("\n") + 1 :]


def _new_id() -> str:
    # Mistral's templates refuse any other form; all others take what they get
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
