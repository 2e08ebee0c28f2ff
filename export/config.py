"""A config.json read key by key: each with its type, and what cannot be honoured is refused, never ignored."""

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

    def raw(self, key: str) -> Any:
        """The value as JSON gave it, or None."""
        return self._data.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
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

    def require(self, key: str, allowed: Any, default: Any) -> None:
        """Refuse any value but the one that the family's graph computes."""
        value = self._get(key, default)
        if value != allowed:
            raise MoedgeError(
                f"{self._source} asks for {key} = {value!r}: moedge supports only {allowed!r} in this family."
            )

    def rope(self, dim: int, interleaved: bool = False) -> Rope:
        """Rotary embedding from `rope_parameters`, or from the older `rope_theta` and `rope_scaling`."""
        merged = {**(self.raw("rope_scaling") or {}), **(self.raw("rope_parameters") or {})}
        parameters = Config(merged, f"{self._source}: rope_parameters")
        theta = parameters.number("rope_theta", self.number("rope_theta", 10000.0))
        kind = parameters.raw("rope_type") or parameters.raw("type") or "default"
        if kind == "default":
            return Rope(theta, dim, interleaved)
        if kind != "yarn":
            raise MoedgeError(f"{self._source} asks for rope_type {kind!r}: moedge supports default and yarn.")
        original = parameters.raw("original_max_position_embeddings") or self.integer("max_position_embeddings")
        factor = parameters.raw("attention_factor")
        yarn = Yarn(
            factor=parameters.number("factor"),
            original_max_position_embeddings=int(original),
            beta_fast=parameters.number("beta_fast", 32.0),
            beta_slow=parameters.number("beta_slow", 1.0),
            mscale=parameters.number("mscale", 0.0),
            mscale_all_dim=parameters.number("mscale_all_dim", 0.0),
            attention_factor=None if factor is None else float(factor),
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
