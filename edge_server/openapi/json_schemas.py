"""JSON Schema in few words: what the description's bodies are written with."""

from collections.abc import Iterable, Mapping
from typing import Any

from moedge.runtime.manifest import Bounds

JsonSchema = dict[str, Any]
ANYTHING: JsonSchema = {}
FLAG: JsonSchema = {"type": "boolean"}
OBJECT: JsonSchema = {"type": "object"}


def text(longest: int | None = None, **more: Any) -> JsonSchema:
    """A string of at most so many characters."""
    return {"type": "string", **({} if longest is None else {"maxLength": longest}), **more}


def whole(low: int | None = None, high: int | None = None, **more: Any) -> JsonSchema:
    """A whole number in [low, high]."""
    return {"type": "integer", **_range(low, high), **more}


def number(low: float | None = None, high: float | None = None, **more: Any) -> JsonSchema:
    """A number in [low, high]."""
    return {"type": "number", **_range(low, high), **more}


def within(bounds: Bounds) -> JsonSchema:
    """A number that is within the bounds of a sampling parameter."""
    return whole(int(bounds.low), int(bounds.high)) if bounds.whole else number(bounds.low, bounds.high)


def items(schema: JsonSchema, most: int | None = None, least: int = 0) -> JsonSchema:
    """A list."""
    return {
        "type": "array",
        "items": schema,
        **({"minItems": least} if least else {}),
        **({} if most is None else {"maxItems": most}),
    }


def record(
    properties: Mapping[str, JsonSchema], required: Iterable[str] = (), more: bool = False, **rest: Any
) -> JsonSchema:
    """An object of these properties; `more`: others may be there too."""
    needed = list(required)
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": needed} if needed else {}),
        **({} if more else {"additionalProperties": False}),
        **rest,
    }


def answer(properties: Mapping[str, JsonSchema], optional: Iterable[str] = ()) -> JsonSchema:
    """An object of an answer, which has all of these properties but for the optional ones, and no others."""
    left_out = set(optional)
    return record(properties, [name for name in properties if name not in left_out])


def values(*accepted: Any) -> JsonSchema:
    """One of these values."""
    return {"enum": list(accepted)}


def one(value: Any) -> JsonSchema:
    """This value."""
    return {"const": value}


def any_of(*schemas: JsonSchema) -> JsonSchema:
    """A value of one of these schemas at least."""
    return {"anyOf": list(schemas)}


def maybe(schema: JsonSchema) -> JsonSchema:
    """The same, or null."""
    if not schema:
        return schema
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], *([] if None in schema["enum"] else [None])]}
    if isinstance(schema.get("type"), str) and "const" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return any_of(schema, {"type": "null"})


def nullable(properties: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    """Properties of a request: null is the same as none."""
    return {name: maybe(schema) for name, schema in properties.items()}


def reference(name: str) -> JsonSchema:
    """A schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _range(low: float | None, high: float | None) -> JsonSchema:
    return {**({} if low is None else {"minimum": low}), **({} if high is None else {"maximum": high})}
