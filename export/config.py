"""A config.json read key by key: each with its type, and what cannot be honoured is refused, never ignored."""

import math
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.model_config import Rope, Yarn


class Config:
    """A checkpoint's config.json; every getter raises MoedgeError that names the key."""

    def __init__(self, data: dict[str, Any], source: str = "config.json") -> None:
        self._data = data
        self._source = source

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        return self._data.get(key) is not None

    def section(self, key: str) -> "Config":
        """A JSON object within this one; empty where it is null or absent."""
        value = self._data.get(key) or {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a JSON object")
        return Config(value, f"{self._source}: {key}")

    def sections(self, key: str) -> list["Config"]:
        """The JSON objects that are the values of a section."""
        section = self.section(key)
        return [section.section(name) for name in section._data]

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers; empty where it is null or absent."""
        value = self._data.get(key) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self._wrong(key, value, "a list of whole numbers")
        return value

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number, not below `least`."""
        value = self._get(key, default)
        if type(value) is not int or value < least:
            raise self._wrong(key, value, f"a whole number from {least}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
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

    def require(self, key: str, *allowed: Any) -> None:
        """Refuse any value but those that moedge computes; absent or null means the first of them."""
        value = self._data.get(key)
        if value is not None and value not in allowed:
            supported = " and ".join(map(repr, allowed))
            raise MoedgeError(f"{self._source} asks for {key} = {value!r}: moedge supports only {supported} here.")

    def rope(self, dim: int, interleaved: bool = False) -> Rope:
        """Rotary embedding from `rope_parameters`, or from the older `rope_theta` and `rope_scaling`, which wins."""
        newer = self.section("rope_parameters")
        parameters = self.section("rope_scaling") if self._data.get("rope_scaling") else newer
        theta = parameters.number("rope_theta", newer.number("rope_theta", self.number("rope_theta", 10000.0)))
        if dim % 2 or theta <= 1:
            raise MoedgeError(
                f"{self._source} rotates {dim} dimensions by powers of {theta}, which cannot be: correct it."
            )
        for place in (self, parameters):
            place.require("partial_rotary_factor", 1.0)
        kind = "rope_type" if parameters.has("rope_type") else "type"
        parameters.require(kind, "default", "yarn")
        if parameters.text(kind, "default") == "default":
            return Rope(theta, dim, interleaved)
        longest = self.integer("max_position_embeddings")
        original = parameters.integer("original_max_position_embeddings", longest)
        yarn = Yarn(
            factor=parameters.number("factor", longest / original),
            original_max_position_embeddings=original,
            beta_fast=parameters.number("beta_fast", 32.0),
            beta_slow=parameters.number("beta_slow", 1.0),
            mscale=parameters.number("mscale", 0.0),
            mscale_all_dim=parameters.number("mscale_all_dim", 0.0),
            attention_factor=parameters.number("attention_factor") if parameters.has("attention_factor") else None,
            truncate=parameters.flag("truncate", True),
        )
        return Rope(theta, dim, interleaved, yarn)

    def _get(self, key: str, default: Any) -> Any:
        value = self._data.get(key)
        if value is not None:
            return value
        if default is None:
            raise MoedgeError(f"{self._source} has no {key}: it is not a complete configuration of this family.")
        return default

    def _wrong(self, key: str, value: object, wanted: str) -> MoedgeError:
        return MoedgeError(f"{self._source} has {key} = {value!r}, which is not {wanted}: correct it.")
