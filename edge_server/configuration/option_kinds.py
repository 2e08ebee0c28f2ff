"""What values an option of a verb takes, read from the annotations of its function: for values that no shell has made.

On a command line everything is text; in a file a number is a number, and `"8080"` is not one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class OptionKind:
    """Values of the type `of`, or lists of them; of `choices` alone if there are any, numbers from `low` to `high`."""

    of: type
    many: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def problem(self, value: object) -> str | None:
        """What to write instead of a value that does not fit."""
        if self.many:
            fits = isinstance(value, list) and all(self._fits(item) for item in value)
            return None if fits else f"a list, [...], each {self._told()}"
        return None if self._fits(value) else self._told()

    def _fits(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        if self.of not in (int, float):
            return type(value) is (str if self.of is Path else self.of)
        if isinstance(value, bool) or not isinstance(value, int if self.of is int else int | float):
            return False
        in_range = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return in_range and math.isfinite(value)

    def _told(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        if self.of not in (int, float):
            return "true or false" if self.of is bool else "a text in quotes"
        low = "" if self.low is None else f", {self.low:g} or more"
        high = "" if self.high is None else f", at most {self.high:g}"
        return f"a{' whole' if self.of is int else ''} number{low}{high}"


def read_kinds(hints: Mapping[str, Any]) -> dict[str, OptionKind]:
    """By name, from hints with their extras: `Annotated[list[str] | None, typer.Option(min=...)]` and the like."""
    return {name: _read_kind(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}


def _read_kind(hint: Any) -> OptionKind:
    kind, option = get_args(hint)[:2]
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    many = get_origin(kind) is list
    kind = get_args(kind)[0] if many else kind
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    low, high = getattr(option, "min", None), getattr(option, "max", None)
    return OptionKind(str if choices else kind, many, choices, low, high)
