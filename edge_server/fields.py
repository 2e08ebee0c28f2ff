"""One JSON object read field by field: types, bounds, and at the end an error for every field nobody asked for.

null is the same as absent, as OpenAI's clients send it for what they do not set. Knows no particular request.
"""

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from moedge.edge_server.errors import ApiError
from moedge.runtime.manifest import Bounds

Word = TypeVar("Word", bound=str)

LONGEST_PARAM = 256  # characters of a name that are told: a body is no place for an answer of twice its size


def bad_field(param: str, reason: str, code: str | None = None) -> ApiError:
    """400 that names a field."""
    shown = param if len(param) <= LONGEST_PARAM else f"{param[:LONGEST_PARAM]}…"
    return ApiError(400, f"{shown}: {reason}.", param=shown, code=code)


def bounded_text(text: str, where: str, longest: int) -> str:
    """The same text; ApiError 400 that names its place if it has more than `longest` characters."""
    if len(text) > longest:
        raise bad_field(where, f"it has {len(text)} characters, at most {longest} are accepted")
    return text


def one_word(value: Any, where: str, words: Sequence[Word]) -> Word | None:
    """The one of these words that a value is, None for null; ApiError 400 that names its place for any other."""
    found = next((word for word in words if word == value), None)
    if found is None and value is not None:
        raise bad_field(where, f"it must be one of {', '.join(words)}")
    return found


def objects_in(items: Sequence[Any], where: str) -> Iterator["Fields"]:
    """The objects of the list that stands there, one by one; ApiError 400 at the first that is none."""
    for place, item in enumerate(items):
        yield Fields(item, f"{where}[{place}]")


class Fields:
    """An object of the body; `where` is its place, such as `messages[2]`, empty for the body itself."""

    def __init__(self, data: Any, where: str = "") -> None:
        if not isinstance(data, dict):
            raise bad_field(where or "body", "it must be an object")
        self._data: Mapping[str, Any] = {key: value for key, value in data.items() if value is not None}
        self._left = set(self._data)
        self._known: set[str] = set()
        self.where = where

    def path(self, name: str) -> str:
        """A field's full name for messages."""
        return f"{self.where}.{name}" if self.where else name

    def bad(self, name: str, reason: str) -> ApiError:
        """400 that names one of these fields."""
        return bad_field(self.path(name), reason)

    def take(self, name: str) -> Any:
        """The raw value, None if absent."""
        self._left.discard(name)
        self._known.add(name)
        return self._data.get(name)

    def text(self, name: str, longest: int) -> str | None:
        """A string of at most `longest` characters."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(name, "it must be a string")
        return bounded_text(value, self.path(name), longest)

    def required_text(self, name: str, longest: int) -> str:
        """A string that must be there."""
        value = self.text(name, longest)
        if value is None:
            raise self.bad(name, "it is required")
        return value

    def word(self, name: str, words: Sequence[Word]) -> Word | None:
        """One of these words."""
        return one_word(self.take(name), self.path(name), words)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean, `default` if absent."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.bad(name, "it must be true or false")
        return default if value is None else value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number in [low, high]."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(name, f"it must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number in [low, high]."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.bad(name, f"it must be a number from {low:g} to {high:g}")
        return float(value)

    def within(self, name: str, bounds: Bounds) -> float | None:
        """A number within bounds."""
        value: float | None
        if bounds.whole:
            value = self.integer(name, int(bounds.low), int(bounds.high))
        else:
            value = self.number(name, bounds.low, bounds.high)
        if value is not None and not bounds.holds(value):
            raise self.bad(name, f"it must be {bounds}")
        return value

    def items(self, name: str, most: int) -> list[Any] | None:
        """A list of at most `most` items."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.bad(name, "it must be a list")
        if len(value) > most:
            raise self.bad(name, f"it has {len(value)} items, at most {most} are accepted")
        return value

    def objects(self, name: str, most: int) -> list["Fields"]:
        """A list of at most `most` objects, none if it is absent."""
        return list(objects_in(self.items(name, most) or [], self.path(name)))

    def inner(self, name: str, default: dict[str, Any] | None = None) -> "Fields":
        """An object; where it is absent `default`, or ApiError 400 if there is none."""
        value = self.take(name)
        return Fields(default if value is None else value, self.path(name))

    def everything(self) -> Mapping[str, Any]:
        """All fields, for an object whose names are the sender's."""
        self._left.clear()
        return self._data

    def ignore(self, names: Collection[str]) -> None:
        """Fields that may be there and change nothing."""
        self._left.difference_update(names)

    def only(self, name: str, *accepted: Any) -> None:
        """A field whose other values would change the answer and are not supported; 1 is 1.0 there, but not true."""
        value = self.take(name)
        if value is not None and not any(
            isinstance(value, bool) is isinstance(a, bool) and value == a for a in accepted
        ):
            alone = f"; only {' or '.join(map(json.dumps, accepted))} is" if accepted else ""
            raise bad_field(self.path(name), f"this value is not supported{alone}", code="unsupported_parameter")

    @property
    def left(self) -> list[str]:
        """The names of fields that nobody has asked for yet."""
        return sorted(self._left)

    def done(self) -> None:
        """Refuse what is left, and name the field that may be meant: a field misspelt is a wish ignored."""
        for name in self.left:
            near = difflib.get_close_matches(name, sorted(self._known), 1, 0.7)
            hint = f"; {near[0]} is one" if near else ""
            raise bad_field(self.path(name), f"there is no such field{hint}", code="unknown_parameter")
