"""A config.json read key by key: each with its type, and what cannot be honoured is refused, never ignored."""

import math
from typing import Any

from moedge.devices.errors import MoedgeError

_INFINITIES = ("Infinity", "inf", {"__float__": "Infinity"})


class Config:
    """A checkpoint's config.json; every getter raises MoedgeError that names the key."""

    def __init__(self, data: dict[str, Any], source: str = "config.json") -> None:
        self._data = data
        self.source = source

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        return self._data.get(key) is not None

    def otherwise(self, key: str, value: Any) -> "Config":
        """The same configuration with `value` where the key is null or absent."""
        return self if self.has(key) else Config(self._data | {key: value}, self.source)

    def stating(self, key: str, value: Any) -> "Config":
        """The same configuration with `value` for the key, whatever it has there."""
        return Config(self._data | {key: value}, self.source)

    def spelled(self, key: str, *others: str) -> "Config":
        """The same configuration where a key that is null or absent has the value of the first other spelling."""
        found = [self._data[other] for other in others if self.has(other)]
        return self.otherwise(key, found[0]) if found else self

    def mentions(self, key: str) -> bool:
        """Whether the key is there at all, null included."""
        return key in self._data

    def says_anything(self, key: str) -> bool:
        """Whether the key has a value that is not empty, nor an object of nulls."""
        value = self._data.get(key)
        return any(item is not None for item in value.values()) if isinstance(value, dict) else bool(value)

    def says(self, key: str, *values: Any) -> bool:
        """Whether the key has one of these values."""
        return self._data.get(key) in values

    def section(self, key: str) -> "Config":
        """A JSON object within this one; empty where it is null or absent."""
        value = self._data.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a JSON object")
        return Config(value, f"{self.source}: {key}")

    def sections(self, key: str) -> list["Config"]:
        """The JSON objects that are the values of a section."""
        section = self.section(key)
        return [section.section(name) for name in section._data]

    def narrowed(self, key: str, inner: str) -> "Config":
        """The same configuration where a section holds no more than a section within it."""
        return Config(self._data | {key: self.section(key).section(inner)._data}, self.source)

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers; empty where it is null or absent."""
        value = self._data.get(key) or []
        whole = [_whole(item) for item in value] if isinstance(value, list) else [None]
        if None in whole:
            raise self._wrong(key, value, "a list of whole numbers")
        return [item for item in whole if item is not None]

    def sizes(self, key: str) -> list[int]:
        """Whole numbers as a list, or as text with an x between them."""
        value = self._data.get(key)
        if not isinstance(value, str):
            return self.integers(key)
        parts = [part.strip() for part in value.lower().split("x")]
        if not all(part.isdecimal() and len(part) < 10 for part in parts):
            raise self._wrong(key, value, "sizes such as 128x128")
        return [int(part) for part in parts]

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers, with at least one."""
        value = self._data.get(key)
        if not isinstance(value, list) or not value or not all(_is_number(item) for item in value):
            raise self._wrong(key, value, "a list of numbers")
        return tuple(float(item) for item in value)

    def limits(self, key: str) -> tuple[float, float]:
        """Two numbers that others are held between; 0 and infinity where it is null or absent.

        Infinity may be spelt as Python's JSON, or as transformers 5 does, an object with its name.
        """
        value = self._data.get(key)
        if value is None:
            return 0.0, math.inf
        pair = [math.inf if item in _INFINITIES else item for item in value] if isinstance(value, list) else []
        if len(pair) != 2 or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in pair):
            raise self._wrong(key, value, "a list of two numbers")
        if not 0 <= pair[0] <= pair[1]:
            raise self.refuse(key, "the first must not be below 0 nor above the second")
        return float(pair[0]), float(pair[1])

    def texts(self, key: str) -> list[str]:
        """A list of strings; empty where it is null or absent."""
        value = self._data.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of strings")
        return value

    def integer(self, key: str, default: int | None = None, least: int = 1, most: int = 1 << 31) -> int:
        """A whole number within `least` and `most`; the usual bound only keeps nonsense from filling the memory.

        8.0 is 8, as some JSON writers spell it.
        """
        value = self._get(key, default)
        whole = _whole(value)
        if whole is None or not least <= whole <= most:
            raise self._wrong(key, value, f"a whole number from {least} to {most}")
        return whole

    def count(self, key: str, default: int | None = None) -> int:
        """How many there are of what a model may lack: 0 and null are none, absent is the default."""
        return self.integer(key, 0 if self.mentions(key) else default, least=0)

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self._get(key, default)
        if not _is_number(value):
            raise self._wrong(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def require_known(self, *keys: str) -> None:
        """Refuse any key but these that has a value."""
        for key in self._data:
            if self.has(key) and key not in keys:
                raise MoedgeError(f"{self.source} has {key}, which moedge does not know there: correct or remove it.")

    def refuse(self, key: str, why: str) -> MoedgeError:
        """The error for a value that is well-formed and cannot be honoured."""
        return MoedgeError(f"{self.source} asks for {key} = {_short(self._data.get(key))}: {why}.")

    def require_each(self, key: str, *allowed: str) -> None:
        """Refuse a list of strings that holds any but these."""
        for item in self.texts(key):
            if item not in allowed:
                raise self.refuse(key, f"moedge supports only {' and '.join(map(repr, allowed))} here")

    def require(self, key: str, *allowed: Any) -> None:
        """Refuse any value but those that moedge computes; absent or null means the first of them."""
        value = self._data.get(key)
        if value is not None and value not in allowed:
            supported = " and ".join(map(repr, allowed))
            raise MoedgeError(f"{self.source} asks for {key} = {value!r}: moedge supports only {supported} here.")

    def _get(self, key: str, default: Any) -> Any:
        value = self._data.get(key)
        if value is not None:
            return value
        if default is None:
            raise MoedgeError(f"{self.source} has no {key}: it is not a complete configuration of this family.")
        return default

    def _wrong(self, key: str, value: object, wanted: str) -> MoedgeError:
        return MoedgeError(f"{self.source} has {key} = {_short(value)}, which is not {wanted}: correct it.")


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, float) and math.isfinite(value)


def _whole(value: object) -> int | None:
    """The whole number that a JSON number is, if it is one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 63 else "a huge number"
    return text if len(text) <= 100 else f"{text[:100]}…"
