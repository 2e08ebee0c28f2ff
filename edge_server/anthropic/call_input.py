"""The arguments of a call as a model writes them, told as JSON that is an object whatever the model does.

Members are told when they are complete: one that is cut off, or is no JSON, is left out, and the object is closed.
"""

import json
import math
from typing import Any

_OPEN, _CLOSE = "{[", "}]"


class CallInput:
    """Text in, JSON text out; all that came out is one object, which is `value` in the end."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self._member: list[str] = []  # the characters of the one that is being written
        self._depth = 0
        self._in_string = self._escaped = self._over = False
        self._told = False

    def push(self, text: str) -> str:
        """What is certain after this text; "" while no further member is complete."""
        return "".join(map(self._read, text))

    def finish(self) -> str:
        """The end of the object."""
        self._over = True
        return "}" if self._told else "{}"

    def _read(self, character: str) -> str:
        if self._over:
            return ""
        if self._in_string:
            self._member.append(character)
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
            return ""
        if character in _CLOSE or (character == "," and self._depth == 1):
            return self._close(character)
        if self._depth == 0:  # before the object
            self._over = not character.isspace() and character != "{"
        else:
            self._member.append(character)
        self._depth += character in _OPEN
        self._in_string = character == '"'
        return ""

    def _close(self, character: str) -> str:
        """At a comma between members, or a bracket."""
        self._depth -= character in _CLOSE
        if self._depth > 0 and character != ",":
            self._member.append(character)
            return ""
        self._over = self._depth <= 0
        member = "".join(self._member).strip()
        self._member.clear()
        read = _read_member(member)
        if read is None:
            return ""
        self.value.update(read)
        begin, self._told = "," if self._told else "{", True
        return begin + member


def _read_member(text: str) -> dict[str, Any] | None:
    """A name and its value; None for what is no JSON, or cannot be sent as such."""
    try:
        value = json.loads(f"{{{text}}}", parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large")
    return number
