"""Which JSON types a tool's schema allows each argument: what tells types in JSON Schema, never a check of values.

`type`, `enum` and `const` name them, `anyOf` and `oneOf` join them, `allOf` and keywords side by side narrow them, and
`$ref` leads on within the tool's own schema. What is not understood leaves everything open.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

_NUMBERS = frozenset({"number", "integer"})
_TYPES = {name: frozenset({name}) for name in ("string", "integer", "boolean", "object", "array", "null")} | {
    "number": _NUMBERS
}
_ANY = frozenset().union(*_TYPES.values())
# as tools made from Python's annotations and from typed languages spell them
ALIASES = {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean"} | {
    "dict": "object",
    "list": "array",
    "none": "null",
}
_TELLING = {"pattern": "string", "minLength": "string", "maxLength": "string", "properties": "object", "items": "array"}
_DEPTH = 64  # of schemas within schemas; deeper ones are left open


def property_types(parameters: Any) -> dict[str, frozenset[str]]:
    """The types that a tool's parameters, a JSON schema, allow each property; none for what they leave open."""
    found: dict[str, frozenset[str]] = {}
    known: dict[str, frozenset[str]] = {}
    for _ in range(2):  # a schema that refers to itself by way of others is asked before all of them are known
        schemas = _Schemas(parameters, known)
        found = {}
        for key, schema in schemas.properties(parameters, set()):
            found[key] = found.get(key, frozenset()) | schemas.types(schema)
        known = schemas.found
    return {key: types for key, types in found.items() if types and types != _ANY}


def allowed_types(root: Any, schema: Any) -> frozenset[str]:
    """The types that a schema within `root` allows, all of them where it says nothing."""
    known: dict[str, frozenset[str]] = {}
    types = _ANY
    for _ in range(2):  # as above
        schemas = _Schemas(root, known)
        types = schemas.types(schema)
        known = schemas.found
    return types


def type_of(value: Any) -> str:
    """The type of a value that JSON can hold, as a schema names it; a whole float is an integer too, and named so."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


class _Schemas:
    """One tool's schemas, each reference looked up once; `known` is what an earlier reading found of references."""

    def __init__(self, root: Any, known: Mapping[str, frozenset[str]]) -> None:
        self._root = root
        self._known = known
        self.found: dict[str, frozenset[str]] = {}

    def properties(self, schema: Any, seen: set[str], depth: int = 0) -> Iterator[tuple[str, Any]]:
        """Names and schemas of an object's properties, also those that it has by reference or in parts."""
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return
        yield from _mapping(schema.get("properties")).items()
        for key in ("allOf", "anyOf", "oneOf"):
            for part in _list(schema.get(key)):
                yield from self.properties(part, seen, depth + 1)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            yield from self.properties(resolve(self._root, reference), seen, depth + 1)

    def types(self, schema: Any, depth: int = 0) -> frozenset[str]:
        """The types that a schema allows, all of them where it says nothing."""
        if schema is False:
            return frozenset()
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return _ANY
        found = _named(schema)
        for key in ("anyOf", "oneOf"):
            if options := _list(schema.get(key)):
                found &= frozenset().union(*(self.types(option, depth + 1) for option in options))
        for part in _list(schema.get("allOf")):
            found &= self.types(part, depth + 1)
        if isinstance(schema.get("$ref"), str):
            found &= self._referred(schema["$ref"], depth)
        if found == _ANY:
            told = [_TYPES[name] for key, name in _TELLING.items() if key in schema]
            found = frozenset().union(*told) if told else _ANY
        return found | _TYPES["null"] if schema.get("nullable") is True else found

    def _referred(self, reference: str, depth: int) -> frozenset[str]:
        if reference not in self.found:
            self.found[reference] = self._known.get(reference, frozenset())  # what it says of itself adds nothing
            self.found[reference] = self.types(resolve(self._root, reference), depth + 1)
        return self.found[reference]


def _named(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema names itself, by `type`, `enum` and `const`."""
    found = _ANY
    names = schema.get("type")
    if isinstance(names, str | list):
        lowered = [str(name).lower() for name in ([names] if isinstance(names, str) else names)]
        found &= frozenset().union(*(_TYPES.get(ALIASES.get(name, name), _ANY) for name in lowered))
    if values := _list(schema.get("enum")):
        found &= frozenset().union(*map(_types_of, values))
    if "const" in schema:
        found &= _types_of(schema["const"])
    return found


def _types_of(value: Any) -> frozenset[str]:
    return _NUMBERS if isinstance(value, int | float) and not isinstance(value, bool) else _TYPES[type_of(value)]


def resolve(root: Any, reference: str) -> Any:
    """What a reference within a document leads to, a JSON pointer (RFC 6901) behind `#`; an open schema if nowhere."""
    path, *steps = unquote(reference).split("/")
    if path != "#":
        return True
    place = root
    for step in steps:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping) and key in place:
            place = place[key]
        elif isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        else:
            return True
    return place


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
