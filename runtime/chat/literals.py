"""Values that a model spelled nearly as JSON or as Python has them: a reader for what the strict ones refuse.

It repairs only what can be understood in one way; docs/chat_formats.md lists what. It reads every character a fixed
number of times at most, however broken the text is. What calls look like is no matter of this file.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

_DEPTH = 64  # of values within values
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])",
    re.ASCII,
)
_WORD = re.compile(r"[^\W\d]\w*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_JSON_STRING = re.compile(r"""()(["'])""")
_PYTHON_STRING = re.compile(r"""([rRuU]?)('''|\"{3}|["'])""")
_REST = {  # of a string behind its first quote; possessive, so that a string without end is looked at once
    quote: re.compile(rf"((?:[^{quote[0]}\\]|\\.{more})*+){quote}", re.DOTALL)
    for quote, more in (("'", ""), ('"', ""), ("'" * 3, "|'(?!'')"), ('"' * 3, '|"(?!"")'))
}
_MARKS = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in "\"'"}
_JSON_ESCAPE = re.compile(r"\\(?:u(?P<hex>[0-9a-fA-F]{4})|(?P<letter>.))", re.DOTALL)
_PYTHON_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|[xuU](?P<hex>(?<=x)[0-9a-fA-F]{2}|(?<=u)[0-9a-fA-F]{4}|(?<=U)[0-9a-fA-F]{8})"
    r"|N\{(?P<name>[\w -]{1,99})\}|(?P<letter>.))",
    re.DOTALL,
)
_JSON_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {letter: letter for letter in "\"'\\/"}
_PYTHON_LETTERS = {letter: meant for letter, meant in _JSON_LETTERS.items() if letter != "/"} | {
    "a": "\a",
    "v": "\v",
    "\n": "",
}

_Item = TypeVar("_Item")


class RepeatedKeys(dict[str, Any]):
    """An object that was written with a key more than once; the last counts, as readers of JSON and Python have it."""


class Quotes(Enum):
    """Which quote ends a string, of those of its kind that are not escaped."""

    PLAIN = auto()  # the first
    PAIRED = auto()  # the first that something may follow and that closes no quotation within the string
    LOOSE = auto()  # the first that something may follow


@dataclass(frozen=True)
class Bracket:
    """A list of any kind: what closes it, and what may stand behind a comma within it."""

    closer: str
    item: re.Pattern[str]


def bracket(closer: str, item: str) -> Bracket:
    """A bracket whose items begin as the regular expression `item` says; a comma may also stand before the closer."""
    return Bracket(closer, re.compile(rf"\s*(?:{item}|{re.escape(closer)})"))


_VALUE = r"""["'\[{(\d.+-]|[rRuU]["']|(?:[Tt]rue|[Ff]alse|[Nn]one|null)\b"""
_LIST, _TUPLE, _BRACES = bracket("]", _VALUE), bracket(")", _VALUE), bracket("}", "[\"']")


class LiteralReader:
    """Reads values from a place in a text on; ValueError for what it cannot understand.

    In `python` there are also tuples and sets (as lists), prefixes, triple quotes, strings side by side, and Python's
    escapes.
    """

    def __init__(self, text: str, at: int = 0, *, python: bool = False, quotes: Quotes = Quotes.PLAIN) -> None:
        self.text = text
        self.at = at  # of the next character
        self._python = python
        self._quotes = quotes
        self._string_start = _PYTHON_STRING if python else _JSON_STRING
        self._last_comma = False  # whether the last list ended in a comma
        self._open: list[Bracket] = []

    def value(self) -> Any:
        """The value that comes next."""
        return self._value(is_key=False)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What comes next behind blanks if it is this, which is then read."""
        found = pattern.match(self.text, self._behind_blanks(self.at))
        if found is not None:
            self.at = found.end()
        return found

    def items(self, within: Bracket, read: Callable[[], _Item]) -> list[_Item]:
        """What `read` finds between commas up to the closer, behind a bracket that was read; a last comma is none."""
        if len(self._open) == _DEPTH:
            raise ValueError("nested too deeply")
        self._open.append(within)
        found: list[_Item] = []
        comma = False
        while self._next() != within.closer:
            if found and not comma:
                raise ValueError("no comma")
            found.append(read())
            comma = self._next() == ","
            self.at += comma
        self.at += 1
        self._open.pop()
        self._last_comma = comma
        return found

    def end(self) -> bool:
        """Whether nothing but blanks is left."""
        return self._behind_blanks(self.at) == len(self.text)

    def _value(self, is_key: bool) -> Any:
        sign = self._next()
        if start := self._string_start.match(self.text, self.at):
            return self._string(start, is_key)
        if sign in ("{", "[") or (sign == "(" and self._python):
            self.at += 1
            return self._braces() if sign == "{" else self._list(sign)
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            return _number(number[0])
        word = _WORD.match(self.text, self.at)
        if word is None or word[0] not in _WORDS:
            raise ValueError("no value")
        self.at = word.end()
        return _WORDS[word[0]]

    def _list(self, sign: str) -> Any:
        items = self.items(_LIST if sign == "[" else _TUPLE, self.value)
        return items[0] if sign == "(" and len(items) == 1 and not self._last_comma else items

    def _braces(self) -> dict[str, Any] | list[Any]:
        entries = self.items(_BRACES, self._entry)
        keys = [entry[0] for entry in entries]
        if self._python and entries and all(len(entry) == 1 for entry in entries):
            return keys  # a set
        if not all(len(entry) == 2 for entry in entries) or not all(isinstance(key, str) for key in keys):
            raise ValueError("keys that JSON cannot hold")
        read = {entry[0]: entry[1] for entry in entries}
        return read if len(read) == len(keys) else RepeatedKeys(read)

    def _entry(self) -> tuple[Any, ...]:
        key = self._value(is_key=True)
        if self._next() != ":":
            return (key,)
        self.at += 1
        return key, self.value()

    def _string(self, start: re.Match[str] | None, is_key: bool) -> str:
        parts = []
        while start is not None:
            self.at = start.end()
            body = self._string_body(start[2], is_key)
            parts.append(body if start[1] in ("r", "R") else _unescaped(body, self._python))
            side_by_side = self._python and self._quotes is Quotes.PLAIN
            start = self.take(self._string_start) if side_by_side else None
        return _whole("".join(parts))

    def _string_body(self, quote: str, is_key: bool) -> str:
        start = self.at
        if self._quotes is Quotes.PLAIN or len(quote) > 1:
            found = _REST[quote].match(self.text, start)
            if found is None:
                raise ValueError("a string without an end")
            self.at = found.end()
            return found[1]
        end = self._last_quote(quote, is_key)
        self.at = end + 1
        return self.text[start:end]

    def _last_quote(self, quote: str, is_key: bool) -> int:
        """Where a string ends that may hold its own quotes, pairs of them or apostrophes."""
        quoting = False
        for mark in _MARKS[quote].finditer(self.text, self.at):
            if mark[0] != quote:
                continue
            before, behind = self.text[mark.start() - 1], self.text[mark.end() : mark.end() + 1]
            if quoting:
                quoting = before.isalnum() and behind.isalnum()
            elif self._may_end(mark.end(), is_key):
                return mark.start()
            else:
                quoting = self._quotes is Quotes.PAIRED and not before.isalnum()
        raise ValueError("a string without an end")

    def _may_end(self, at: int, is_key: bool) -> bool:
        """Whether a string may end here, by what comes next and which brackets are open."""
        at = self._behind_blanks(at)
        if is_key:
            return self.text.startswith(":", at)
        for within in reversed(self._open):
            if self.text.startswith(",", at):
                return within.item.match(self.text, at + 1) is not None
            if not self.text.startswith(within.closer, at):
                return False
            at = self._behind_blanks(at + 1)
        return at == len(self.text)

    def _next(self) -> str:
        """The next character that is not blank, not read yet; "" at the end."""
        self.at = self._behind_blanks(self.at)
        return self.text[self.at : self.at + 1]

    def _behind_blanks(self, at: int) -> int:
        while self.text[at : at + 1].isspace():
            at += 1
        return at


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return int(text, 0) if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else float(text)


def _unescaped(text: str, python: bool) -> str:
    """A string's text without escapes; one that is none stays as it was written."""
    escape, letters = (_PYTHON_ESCAPE, _PYTHON_LETTERS) if python else (_JSON_ESCAPE, _JSON_LETTERS)
    return escape.sub(lambda found: _character(found, letters), text)


def _character(found: re.Match[str], letters: Mapping[str, str]) -> str:
    groups = found.groupdict()
    if groups["hex"]:
        return chr(int(groups["hex"], 16))
    if groups.get("octal"):
        return chr(int(groups["octal"], 8))
    if groups.get("name"):
        try:
            return unicodedata.lookup(groups["name"])
        except KeyError:
            return found[0]
    return letters.get(groups["letter"], found[0])


def _whole(text: str) -> str:
    """The text with pairs of surrogates joined; ValueError for half a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text
