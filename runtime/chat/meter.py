"""What one rendering of a chat template may do: passes through loops, characters made, how large one value may grow.

A template is data of whoever made the bundle. Jinja's sandbox keeps it from Python's insides, not from filling memory:
what multiplies text is refused here before it does so, by how much would come of it. Knows no syntax tree.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

MAX_CHARACTERS = 1 << 20  # of one rendered prompt
MAX_STEPS = 100_000  # passes through loops and macros of one rendering, some 100 ms
MAX_MADE = 8 * MAX_CHARACTERS  # of all values together, what filters and operators make on the way
MAX_VALUE = 4 * MAX_CHARACTERS  # of one value, and what is inside of it
MAX_DEPTH = 128  # of one value; a request's JSON is no deeper than 80
PER_INPUT = 16  # how often a conversation may be copied on the way, beyond MAX_MADE
ITEM = 64  # an item of a list costs as much as so many characters
_WIDE = re.compile(r"\d{5}")  # digits of a width or precision
_STARRED = re.compile(r"%[^a-zA-Z%]*\*")
_NESTED = re.compile(r"\{[^{}]*\{")


class RenderMeter:
    """The count of one rendering with the values that it was `given`; a template calls it in every pass of a loop."""

    def __init__(self, given: Iterable[Any] = ()) -> None:
        self._steps = 0
        self._weights: dict[
            int, tuple[object, int, int]
        ] = {}  # containers never change; kept, so that no id is used again
        self._largest = 1 << 62
        inputs = sum(self.weigh(value) for value in given)
        self._largest = MAX_VALUE + inputs
        self._left = MAX_MADE + PER_INPUT * inputs

    def __call__(self, characters: int = 0) -> str:
        """Count a pass whose own text has so many characters; SecurityError after too many."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SecurityError(f"it loops more than {MAX_STEPS} times")
        self.spend(characters)
        return ""

    def spend(self, characters: int) -> None:
        """Count what is looked through or made; SecurityError after too much."""
        self._left -= characters
        if self._left < 0:
            raise SecurityError(f"it makes more than {MAX_MADE} characters on the way")

    def through(self, value: Any) -> Any:
        """The value itself, counted as looked through once."""
        self.spend(length_of(value))
        return value

    def made(self, value: Any) -> Any:
        """The value that a filter or an operator made, counted; SecurityError if it is too large."""
        if isinstance(value, Iterator):
            return self._counted(value)
        self.spend(length_of(value))
        self.weigh(value)
        return value

    def shown(self, value: Any) -> Any:
        """The value that is written as text."""
        if isinstance(value, Namespace):
            raise SecurityError("a namespace is no text")
        return self.made(value)

    def weigh(self, value: Any) -> int:
        """Characters and items of a value, of one that stands in it twice twice; SecurityError if it is too large."""
        return self._weigh(value)[0]

    def _weigh(self, value: Any, depth: int = 0) -> tuple[int, int]:
        """The weight, and how many values stand inside of one another."""
        if isinstance(value, str):
            weight, height = len(value), 0
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            found = self._weights.get(id(value))
            if found is not None:
                return found[1:]
            items = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            weight, height = 1, 0
            for item in items if depth < MAX_DEPTH else ():
                item_weight, item_height = self._weigh(item, depth + 1)
                weight, height = weight + ITEM + item_weight, max(height, item_height + 1)
                self._check(weight)
            if depth >= MAX_DEPTH or height > MAX_DEPTH:
                raise SecurityError(f"a value is nested more than {MAX_DEPTH} deep")
            self._weights[id(value)] = value, weight, height
        elif isinstance(value, Namespace) and depth:
            raise SecurityError("a namespace stands inside of another value")
        else:
            weight, height = 1, 0
        self._check(weight)
        return weight, height

    def refuse_huge(self, name: str, arguments: Iterable[Any], options: Mapping[str, Any]) -> None:
        """SecurityError if a filter or method of that name would make something huge of these."""
        values = [*arguments]
        for value in [*values, *options.values()]:
            if isinstance(value, int) and abs(value) > MAX_CHARACTERS:
                raise SecurityError(f"{name} with a number this large")
        if name == "sum" and any(
            not isinstance(value, int | float | str) for value in [*values[2:], *options.values()]
        ):
            raise SecurityError("sum of what is no number")  # of lists it would copy the first one again and again
        if len(values) > 1 and name == "join":
            self._check(_items(values[0]) * len(str(values[1])))
        if not values or not isinstance(text := values[0], str):
            return
        values += options.values()
        if name == "replace" and len(values) > 2:
            self._check(len(text) + text.count(str(values[1])) * len(str(values[2])))
        elif name == "indent" and len(values) > 1:
            width = len(values[1]) if isinstance(values[1], str) else int(values[1])
            self._check(len(text) + (text.count("\n") + 1) * width)
        elif name == "format":
            self._check_format(text, values[1:])

    def refuse_huge_operation(self, operator: str, left: Any, right: Any) -> None:
        """SecurityError if an operator would make something huge of these."""
        if operator == "+":
            self._check(self.weigh(left) + self.weigh(right))
        elif operator == "%" and isinstance(left, str):
            self._check_percent(left, right)
        elif operator == "*" and _size(left) * _size(right) > MAX_CHARACTERS:
            raise SecurityError("`*` with operands this large")
        elif operator == "**" and (_size(left) > MAX_CHARACTERS or _size(right) > 64):
            raise SecurityError("`**` with operands this large")

    def _check_format(self, text: str, values: list[Any]) -> None:
        if "%" in text and "{" not in text:
            self._check_percent(text, values)
        if _WIDE.search(text) or _NESTED.search(text.replace("{{", "")):
            raise SecurityError("a format with a width this large, or from a value")
        self._check(len(text) + (text.count("{") + text.count("%")) * sum(map(self.weigh, values)))

    def _check_percent(self, text: str, values: Any) -> None:
        if _WIDE.search(text) or _STARRED.search(text):
            raise SecurityError("a format with a width this large, or from a value")
        self._check(len(text) + text.count("%") * self.weigh(values))

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.spend(ITEM)
            yield item

    def _check(self, weight: int) -> None:
        if weight > self._largest:
            raise SecurityError(f"a value would have more than {MAX_VALUE} characters")


def _items(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 1


def length_of(value: Any) -> int:
    """What looking through a value once costs, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset | range):
        return ITEM * len(value)
    return 1


def _size(value: Any) -> float:
    return float(len(value)) if isinstance(value, str | list | tuple) else abs(float(value))
