"""Objects of an answer's schema have the properties that it names and no others, where it does not speak of others.

JSON Schema allows any further ones, and a small model that is allowed to goes on inventing them; what clients generate
from classes rarely forbids it. Every answer of the schema that comes out is one of that which went in.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "prefixItems")
# a further property may be wanted by one of these, or be one of a value that they name
_SPEAK_OF_OTHERS = frozenset(
    (
        *("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties"),
        *("allOf", "anyOf", "oneOf", "$ref", "not", "if", "then", "else", "enum", "const"),
        *("dependentRequired", "dependentSchemas", "dependencies"),
    )
)
_BESIDE = ("properties", "required", "additionalProperties", "patternProperties")


def close_objects(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, objects that name properties closed.

    Schemas that are joined to one are left open, as each has properties of the others; where references may lead to
    such, all is.
    """
    parts = list(_parts(schema))
    if any("$ref" in part for part in parts) and any(map(_joins, parts)):
        return schema
    closed = _close(schema)
    assert isinstance(closed, dict)
    return closed


def _close(schema: Any) -> Any:
    if not isinstance(schema, Mapping) or _joins(schema):
        return schema
    ready = dict(schema)
    for key in _MAPS:
        if isinstance(ready.get(key), Mapping):
            ready[key] = {name: _close(each) for name, each in ready[key].items()}
    for key in (*_LISTS, *(("oneOf",) if "discriminator" in ready else ())):
        if isinstance(ready.get(key), list):
            ready[key] = [_close(each) for each in ready[key]]
    for key in ("items", "additionalProperties"):
        if key in ready:
            ready[key] = _close(ready[key])
    if _is_closed_by_its_names(ready):
        ready["additionalProperties"] = False
    return ready


def _is_closed_by_its_names(schema: Mapping[str, Any]) -> bool:
    names, required = schema.get("properties"), schema.get("required", [])
    types = schema.get("type", "object")
    if not isinstance(names, Mapping) or not names or "object" not in (types if isinstance(types, list) else [types]):
        return False
    return not _SPEAK_OF_OTHERS & set(schema) and isinstance(required, list) and set(map(str, required)) <= set(names)


def _joins(schema: Mapping[str, Any]) -> bool:
    """Whether a value must be of several schemas at once; of a union that a property tells apart it is of one alone."""
    if "allOf" in schema or ("oneOf" in schema and "discriminator" not in schema):
        return True
    return any(key in schema for key in ("$ref", "anyOf", "oneOf")) and any(key in schema for key in _BESIDE)


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a JSON value, which has at most some tens of levels."""
    if isinstance(value, Mapping):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _parts(each)
