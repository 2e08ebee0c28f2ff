"""Objects with bare keys and with strings between delimiters, `{city:<|"|>Oslo<|"|>,days:3}`, as Gemma 4 writes them.

It tells where such an object ends while its text arrives, and reads it; which call it belongs to is
formats/gemma.py's matter. A string has no escapes: the next delimiter ends it. Keys and strings as JSON has them are
understood too, and a word without quotes that is no value of JSON's is a text.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from moedge.runtime.chat.json_calls import near_value_of, value_of
from moedge.runtime.chat.literals import LiteralReader
from moedge.runtime.chat.markers import Markers
from moedge.runtime.chat.scans import NO

DELIMITER = '<|"|>'
_DELIMITERS = Markers((DELIMITER,))
_MARK = re.escape(DELIMITER)
_WORD = r'[^\s<"{}\[\],:][^<"{}\[\],:]*+'  # blanks within it too
_PIECE = re.compile(rf'(?P<blanks>\s++)|(?P<quote>{_MARK}|")|(?P<sign>[{{}}\[\],:])|(?P<word>{_WORD})')
_IN_JSON_STRING = re.compile(r'["\\]')
_STRING = re.compile(rf"{_MARK}(.*?){_MARK}", re.DOTALL)
_BARE = re.compile(_WORD)
_CLOSERS = {"{": "}", "[": "]"}
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "none": None}
_DEPTH = 64  # of values within values


class _Want(Enum):
    """What may come next, beside more of the same word."""

    OBJECT = auto()
    KEY = auto()  # or the end of an object
    COLON = auto()
    VALUE = auto()
    ITEM = auto()  # or the end of a list
    NEXT = auto()  # a comma, or the end of what is open


class DelimitedScan:
    """One object, up to the brace that closes it."""

    hopeless = 0

    def __init__(self) -> None:
        self._want = _Want.OBJECT
        self._closers: list[str] = []  # of the brackets that are open
        self._joins = False  # a word that the next one goes on with
        self._quote = ""  # of the string that is open
        self._escaped = False
        self._held = ""  # what may become a delimiter
        self._seen = 0

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of the object."""
        text = self._held + text[place:]
        at = 0
        while at < len(text):
            if self._quote:
                stop = self._string(text, at)
                if stop == at:
                    break
                at = stop
                continue
            piece = _PIECE.match(text, at)
            if piece is None:
                if not DELIMITER.startswith(text[at:]):
                    return NO
                break
            if not self._accept(piece):
                return NO
            at = piece.end()
            if not self._closers:
                return self._seen + at
        self._held = text[at:]
        self._seen += at
        return NO if last else None

    def _string(self, text: str, at: int) -> int:
        """Where the open string ends, or how far the text is certain to be its."""
        if self._quote == DELIMITER:
            found = _DELIMITERS.find(text, at)
            if found is None:
                return _DELIMITERS.cut(text, at)
            self._quote = ""
            return found.end()
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _IN_JSON_STRING.search(text, at)
        if found is None:
            return len(text)
        if found[0] == '"':
            self._quote = ""
        else:
            self._escaped = True
        return found.end()

    def _accept(self, piece: re.Match[str]) -> bool:
        """Whether a piece may stand here; blanks may anywhere."""
        if piece["blanks"]:
            return bool(self._closers)
        if piece["word"] and self._joins:
            return True
        self._joins = bool(piece["word"])
        if piece["sign"]:
            return self._sign(piece["sign"])
        if self._want not in (_Want.KEY, _Want.VALUE, _Want.ITEM):
            return False
        self._want = _Want.COLON if self._want is _Want.KEY else _Want.NEXT
        self._quote = piece["quote"] or ""
        return True

    def _sign(self, sign: str) -> bool:
        want = self._want
        if sign in _CLOSERS:
            if want not in (_Want.VALUE, _Want.ITEM) and (want, sign) != (_Want.OBJECT, "{"):
                return False
            self._closers.append(_CLOSERS[sign])
            self._want = _Want.KEY if sign == "{" else _Want.ITEM
        elif sign == ":":
            self._want = _Want.VALUE
            return want is _Want.COLON
        elif sign == ",":
            self._want = _Want.KEY if self._closers[-1:] == ["}"] else _Want.ITEM
            return want is _Want.NEXT
        else:
            self._want = _Want.NEXT
            return want in (_Want.NEXT, _Want.KEY, _Want.ITEM) and bool(self._closers) and self._closers.pop() == sign
        return True


def read_delimited(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The object that begins with the brace at a place, and the place behind it.

    ValueError if there is none, for an argument twice, and for what is nested too deeply.
    """
    reader = _Reader(text, at)
    return reader.object(_DEPTH), reader.at


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at  # of the next character

    def object(self, depth: int) -> dict[str, Any]:
        self._take("{")
        read: dict[str, Any] = {}
        while not self._ends("}", bool(read)):
            key = self._string() if self._next() in '<"' else self._bare()
            if key in read and depth == _DEPTH:  # within values the last one counts
                raise ValueError("an argument twice")
            self._take(":")
            read[key] = self._value(depth - 1)
        return read

    def _list(self, depth: int) -> list[Any]:
        self._take("[")
        read: list[Any] = []
        while not self._ends("]", bool(read)):
            read.append(self._value(depth - 1))
        return read

    def _value(self, depth: int) -> Any:
        if not depth:
            raise ValueError("nested too deeply")
        sign = self._next()
        if sign == "{":
            return self.object(depth)
        if sign == "[":
            return self._list(depth)
        if sign in ("<", '"'):
            return self._string()
        word = self._bare()
        if word.startswith("'"):
            return near_value_of(word)
        return _WORDS[word.lower()] if word.lower() in _WORDS else value_of(word)

    def _string(self) -> str:
        if self._text.startswith('"', self.at):
            reader = LiteralReader(self._text, self.at)
            said = reader.value()
            self.at = reader.at
            return str(said)
        found = _STRING.match(self._text, self.at)
        if found is None:
            raise ValueError("no string")
        self.at = found.end()
        return found[1]

    def _bare(self) -> str:
        found = _BARE.match(self._text, self.at)
        if found is None:
            raise ValueError("no word")
        self.at = found.end()
        return found[0].rstrip()

    def _ends(self, closer: str, comma: bool) -> bool:
        """Whether a bracket ends here, which is stepped over then, as is the comma that must stand before more."""
        if comma and self._next() != closer:
            self._take(",")
        if self._next() != closer:
            return False
        self.at += 1
        return True

    def _take(self, sign: str) -> None:
        if self._next() != sign:
            raise ValueError(f"no {sign}")
        self.at += 1

    def _next(self) -> str:
        """The next character that is not blank; "" at the end."""
        while self._text[self.at : self.at + 1].isspace():
            self.at += 1
        return self._text[self.at : self.at + 1]
