"""Where a value of nested brackets and strings ends, told while its text arrives: JSON, or calls in Python's syntax.

It checks what follows what, so that prose is known as such at its first word; whether the value is a call is decided by
those who read the whole text (json_calls.py, formats/lfm2.py). Strings may hold raw newlines and any escape.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r"\s+|[\w.+-]+|.", re.DOTALL)
_IN_STRING = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}
_OPENS = {"{": "}", "[": "]", "(": ")"}
_WORD = "w"


@dataclass(frozen=True)
class Brackets:
    """What may follow what: brackets, commas, strings (by their quote), words and numbers (`w`), "" the beginning."""

    follows: Mapping[str, str]
    calls: bool = False  # a word that stands in no bracket names a call


_BEHIND = ",]}"
_VALUE = "[{w\"'"
JSON = Brackets(  # strings in single quotes too, as some write them
    {"": "[{", "[": f"{_VALUE}]", "{": "\"'}", ",": f"{_VALUE}]}}", ":": _VALUE, _WORD: _BEHIND}
    | dict.fromkeys("\"'", f":{_BEHIND}")
    | dict.fromkeys("]}", _BEHIND)
)
_ANY = "[{(w\"'"
PYTHON = Brackets(
    {"": "[{w", "[": f"{_ANY}]", "(": f"{_ANY})", "{": "\"'w}", ",": f"{_ANY}])}}", ":": _ANY, "=": _ANY}
    | dict.fromkeys("\"'", ",:])}")
    | {_WORD: "=(,:])}"}
    | dict.fromkeys("])}", ",])}"),
    calls=True,
)


class Nest:
    """One value while it arrives. `done` once it is complete, `broken` once it cannot be one."""

    def __init__(self, brackets: Brackets) -> None:
        self.done = False
        self.broken = False
        self._brackets = brackets
        self._closers: list[str] = []  # of the brackets that are open
        self._last = ""  # significant token
        self._joins = False  # a word that the next letter may go on with
        self._quote = ""  # of the string that is open
        self._escaped = False

    @property
    def in_string(self) -> bool:
        """Whether the text so far ends inside of a string."""
        return bool(self._quote)

    @property
    def behind_string(self) -> bool:
        """Whether the last that was read is a string which has ended."""
        return not self._quote and self._last in _IN_STRING

    def feed(self, text: str, place: int, stop: int, one: bool = False) -> int:
        """Read from a place on; where it stopped: at `stop`, behind a complete value, or at what breaks it.

        `one` stops behind the first token outside of strings.
        """
        while place < stop:
            if self._quote:
                place = self._string(text, place, stop)
                continue
            token = _TOKEN.match(text, place, stop)
            assert token is not None  # it matches any character
            if token[0].isspace():
                self._joins = False
            elif not self._accept(token[0]):
                self.broken = True
                return place
            elif self._last in "]})" and not self._closers:
                self.done = True
                return token.end()
            elif one and not self._quote:
                return token.end()
            place = token.end()
        return place

    def _accept(self, token: str) -> bool:
        kind = token if len(token) == 1 and token in "[]{}(),:=\"'" else _WORD
        if kind is _WORD:
            if self._joins:
                return True
            if not (token[0].isalnum() or token[0] in "_.+-"):
                return False
        allowed = self._brackets.follows.get(self._last, "")
        if self._brackets.calls and not self._closers and self._last == _WORD:
            allowed = "("
        prefix = self._joins and self._last == _WORD and self._brackets.calls  # of a string, as in r"x"
        if kind not in allowed and not (prefix and self._closers and kind in _IN_STRING):
            return False
        self._joins = kind is _WORD
        if kind in _OPENS:
            self._closers.append(_OPENS[kind])
        elif kind in "]})":
            if not self._closers or self._closers.pop() != kind:
                return False
        elif kind in _IN_STRING:
            self._quote = kind
        self._last = kind
        return True

    def _string(self, text: str, place: int, stop: int) -> int:
        if self._escaped:
            self._escaped = False
            return place + 1
        found = _IN_STRING[self._quote].search(text, place, stop)
        if found is None:
            return stop
        if found[0] == "\\":
            self._escaped = True
        else:
            self._quote = ""
        return found.end()
