"""Kimi K2's answers: `<think>` first if at all, content, and sections of tool calls named `functions.NAME:INDEX`.

A section inside open thinking ends the thinking, and a new call, the end of its section or of the answer ends an open
call, as this model does write both. A call's id is the text that the model wrote, because its template shows that id
again in later turns.
"""

from enum import Enum, auto

from moedge.runtime.chat_delta import CallArguments, CallStart, Content, Delta, Reasoning, find_first, split_safe

THINK, END_THINK = "<think>", "</think>"
SECTION, END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, END_CALL = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"


class _At(Enum):
    START = auto()  # nothing but blanks so far
    THINKING = auto()
    CONTENT = auto()
    SECTION = auto()  # between calls
    HEADER = auto()  # in a call, before its arguments
    ARGUMENTS = auto()


_MARKERS = {
    _At.START: (THINK, SECTION),
    _At.THINKING: (END_THINK, SECTION),
    _At.CONTENT: (SECTION,),
    _At.SECTION: (CALL, END_CALL, END_SECTION),
    _At.HEADER: (ARGUMENTS, END_CALL, CALL, END_SECTION),
    _At.ARGUMENTS: (END_CALL, CALL, END_SECTION),
}
_NEXT = {
    THINK: _At.THINKING,
    END_THINK: _At.CONTENT,
    SECTION: _At.SECTION,
    END_SECTION: _At.CONTENT,
    CALL: _At.HEADER,
    ARGUMENTS: _At.ARGUMENTS,
    END_CALL: _At.SECTION,
}


# What stands here means something only as a whole, so it waits for the marker that ends it.
_WHOLE = (_At.START, _At.SECTION, _At.HEADER)


class KimiK2Parser:
    """See `ChatParser`. Blanks before `<think>` and between the calls of a section are layout and dropped."""

    def __init__(self) -> None:
        self._at = _At.START
        self._held = ""  # received, not yet certain
        self._calls = 0

    def push(self, text: str) -> list[Delta]:
        """Read on; see `ChatParser.push`."""
        self._held += text
        deltas: list[Delta] = []
        while True:
            if self._at is _At.START and self._starts_with_content():
                self._at = _At.CONTENT
            found = find_first(self._held, _MARKERS[self._at])
            if found is None:
                break
            deltas += self._cross(found.before, found.marker)
            self._held = found.after
        if self._at not in _WHOLE:
            certain, self._held = split_safe(self._held, _MARKERS[self._at])
            deltas += self._text(certain)
        return deltas

    def finish(self) -> list[Delta]:
        """See `ChatParser.finish`. A call whose header never ended becomes content."""
        held, self._held = self._held, ""
        if self._at is _At.START and held:
            return [Content(held)]
        return self._text(held)

    def _starts_with_content(self) -> bool:
        written = self._held.lstrip()
        return bool(written) and not any(m.startswith(written[: len(m)]) for m in _MARKERS[_At.START])

    def _text(self, text: str) -> list[Delta]:
        """Text between markers, by where it stands."""
        if not text or (self._at in _WHOLE and not text.strip()):
            return []
        if self._at is _At.THINKING:
            return [Reasoning(text)]
        if self._at is _At.ARGUMENTS:
            return [CallArguments(self._calls - 1, text)]
        return [Content(text)]

    def _cross(self, before: str, marker: str) -> list[Delta]:
        """Read the text before a marker and step over it. A call without a name becomes content, arguments and all."""
        call = self._call(before) if self._at is _At.HEADER and marker in (ARGUMENTS, END_CALL) else None
        deltas: list[Delta] = self._text(before) if call is None else [call]
        nameless = self._at is _At.HEADER and marker == ARGUMENTS and call is None
        self._at = _At.SECTION if nameless else _NEXT[marker]
        return deltas

    def _call(self, header: str) -> CallStart | None:
        identifier = header.strip()
        written = identifier.removeprefix("functions.")
        name, colon, index = written.rpartition(":")
        if not (colon and index.isdecimal()):
            name = written
        if not name:
            return None
        self._calls += 1
        return CallStart(self._calls - 1, identifier, name)
