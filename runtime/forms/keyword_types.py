"""What the keywords of a JSON schema must be, so that whoever reads them further need not ask."""

from collections.abc import Callable, Mapping
from typing import Any

from moedge.devices.errors import MoedgeError


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_schema, value))


def _named_schemas(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_schema, value.values()))


_Check = tuple[Callable[[Any], bool], str]
_CHECKS: Mapping[str, _Check] = (
    dict.fromkeys(("pattern", "format", "$ref"), (_text, "a text"))
    | {"type": (lambda value: _text(value) or (_texts(value) and bool(value)), "the name of a type, or a list of such")}
    | {"required": (_texts, "a list of names"), "enum": (lambda value: isinstance(value, list), "a list of values")}
    | dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        (_count, "a whole number from 0 on"),
    )
    | dict.fromkeys(("minimum", "maximum", "multipleOf"), (_number, "a number"))
    | dict.fromkeys(
        ("exclusiveMinimum", "exclusiveMaximum"),
        (lambda value: _number(value) or isinstance(value, bool), "a number"),
    )
    | dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), (_schemas, "a list of schemas"))
    | dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), (_named_schemas, "schemas by name"))
    | dict.fromkeys(("items", "additionalProperties"), (_schema, "a schema"))
)


def check_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same, whole numbers as such and tuples in today's words; MoedgeError for a keyword of another type."""
    ready = dict(schema)
    if isinstance(ready.get("items"), list):  # as drafts before 2020 had it
        ready["prefixItems"] = ready.pop("items")
        if "additionalItems" in ready:
            ready["items"] = ready.pop("additionalItems")
    for key, (fits, what) in _CHECKS.items():
        if key not in ready:
            continue
        value = ready[key]
        if isinstance(value, float) and value.is_integer() and key.startswith(("min", "max")):
            value = ready[key] = int(value)
        if not fits(value):
            raise MoedgeError(f"{key} must be {what}")
    return ready
