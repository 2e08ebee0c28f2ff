"""JSON that is delivered as it is written, its strings made strict on the way: control characters and bad escapes.

Everything else passes as it is, so JSON that is broken in another way stays broken, and so does what begins with no
bracket, as it is no JSON. Calls that are read as a whole are repaired in literals.py, to the same text.
"""

import re

_IN_STRING = re.compile(r'["\\\x00-\x1f]')
_ESCAPE = re.compile(r"""\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})""")
_ESCAPE_SO_FAR = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


class StrictStrings:
    """One JSON value that arrives in pieces; how it is cut changes how the result is cut, never what it adds up to."""

    def __init__(self) -> None:
        self._is_json: bool | None = None  # not known before the first sign
        self._in_string = False
        self._held = ""  # an escape that is not complete yet

    def push(self, text: str) -> str:
        """The next piece of it as strict JSON; an escape that is not complete is held back."""
        if self._is_json is None and text.strip():
            self._is_json = text.lstrip()[0] in "{["
        if not self._is_json:
            return text
        text, self._held = self._held + text, ""
        pieces: list[str] = []
        place = 0
        while place < len(text):
            end = self._plain(text, place)
            pieces.append(text[place:end])
            place = end
            if place == len(text):
                break
            if text[place] != "\\":
                pieces.append(self._sign(text[place]))
                place += 1
            elif escape := _ESCAPE.match(text, place):
                pieces.append(escape[0])
                place = escape.end()
            elif _ESCAPE_SO_FAR.fullmatch(text, place):
                self._held = text[place:]
                break
            else:  # none that JSON knows: the backslash is text, but that before an apostrophe is nothing
                pieces.append("" if text.startswith("\\'", place) else "\\\\")
                place += 1
        return "".join(pieces)

    def end(self) -> str:
        """What was held back, when no more comes."""
        held, self._held = self._held, ""
        return held

    def _plain(self, text: str, place: int) -> int:
        """Where the next sign stands that counts."""
        if not self._in_string:
            quote = text.find('"', place)
            return len(text) if quote < 0 else quote
        found = _IN_STRING.search(text, place)
        return len(text) if found is None else found.start()

    def _sign(self, sign: str) -> str:
        if sign == '"':
            self._in_string = not self._in_string
            return sign
        letter = _LETTERS.get(sign)
        return f"\\{letter}" if letter else f"\\u{ord(sign):04x}"
