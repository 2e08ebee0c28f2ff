"""The schema that a tool declares for its arguments, made ready to be held to: within what readers of JSON can read.

It narrows and never widens: whatever is of the schema that comes out is of the one that went in, but for keywords that
nobody can hold to, which are left out where a tool is not strict.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from moedge.runtime.chat.schema_types import ALIASES, resolve
from moedge.runtime.constraint import check_size
from moedge.runtime.forms.keyword_types import check_keywords
from moedge.runtime.forms.patterns import check_repetitions, narrow_classes
from moedge.runtime.forms.visits import Visits

WHOLE = 10**17  # integers beyond are none that clients can read
REAL = 1e15  # of numbers, which then have no exponent and never overflow
_HOPS = 16  # from schema to schema
DEPTH = 6  # of values within values, where a schema says nothing
ANY = "moedge-any-"
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)  # that are held to; any other one is a note, as JSON Schema has it
_UNHELD = frozenset(
    (
        *("uniqueItems", "contains", "minContains", "maxContains", "propertyNames", "not", "if", "then", "else"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
    )
)
_LOOKS = re.compile(r"\(\?<?[=!]|\\[bB]")  # around a place, which no grammar can
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_COMPOSED = ("anyOf", "oneOf", "allOf", "$ref")
_TYPES = ("string", "number", "integer", "boolean", "null", "array", "object")
_OBJECT = ("properties", "required", "additionalProperties", "patternProperties")

Schema = dict[str, Any]


def read_parameters(parameters: str | None) -> Schema:
    """The schema that a text says; MoedgeError if it is none, too large or nested too deeply."""
    return {"type": "object", "properties": {}} if parameters is None else check_size(parameters)


def prepare(schema: Schema, strict: bool) -> Schema:
    """The schema of a tool's arguments, narrowed.

    Objects that name their properties have no others, unless they say so; numbers fit a reader of JSON; values of no
    schema are not nested deeply. Types may have the names of other languages.
    """
    ready = _Narrowing(schema, strict).arguments()
    if ANY in json.dumps(ready):
        ready["$defs"] = {**_map(ready.get("$defs")), **anything()}
    return ready


def anything() -> dict[str, Schema]:
    """The definitions of values of any kind, by how deeply they may be nested."""
    plain: list[Schema] = [{"type": "string"}, _bounded({"type": "number"}), {"type": "boolean"}, {"type": "null"}]
    found = {f"{ANY}0": {"anyOf": plain}}
    for depth in range(1, DEPTH + 1):
        inner = {"$ref": f"#/$defs/{ANY}{depth - 1}"}
        nested = [{"type": "array", "items": inner}, {"type": "object", "additionalProperties": inner}]
        found[f"{ANY}{depth}"] = {"anyOf": [*plain, *nested]}
    return found


def types_named(schema: Mapping[str, Any]) -> list[str]:
    """The types that `type` lists."""
    named = schema.get("type")
    return [named] if isinstance(named, str) else [name for name in named or () if isinstance(name, str)]


def says_nothing(schema: Any) -> bool:
    """Whether any value is of a schema."""
    if not isinstance(schema, Mapping):
        return schema is True
    return not any(key in schema for key in (*_KEYWORDS, *_UNHELD))


_KEYWORDS = frozenset(
    (
        *("type", "enum", "const", "items", "pattern", "format", "minLength", "maxLength", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minProperties"),
        *("maxProperties", "prefixItems", *_COMPOSED, *_OBJECT),
    )
)


class _Narrowing:
    """`composed` schemas are joined with others, so that what they leave open is not theirs to close."""

    def __init__(self, root: Schema, strict: bool) -> None:
        self.visits = Visits()
        self._root = root
        self._strict = strict
        self._composed_defs = "allOf" in json.dumps(root)

    def arguments(self) -> Schema:
        schema = self._root
        open_ = any(key in schema for key in (*_COMPOSED, "additionalProperties", "patternProperties"))
        named = schema if open_ or "properties" in schema else {**schema, "properties": {}}
        ready = self._narrow({**named, "type": "object"}, composed=False)
        assert isinstance(ready, dict)
        return ready

    def _narrow(self, schema: Any, composed: bool) -> Any:
        if not isinstance(schema, Mapping):
            return _any() if schema is True and not composed else schema
        if says_nothing(schema) and not composed:
            return {**{key: schema[key] for key in ("$defs", "definitions") if key in schema}, **_any()}
        ready = self._keywords(schema)
        types = types_named(ready)
        joins = any(key in ready for key in _COMPOSED)
        inner = composed or (joins and any(key in ready for key in (*_OBJECT, "items", "type")))
        for key in _MAPS:
            if key in ready:
                deeper = self._composed_defs if key in ("$defs", "definitions") else composed
                ready[key] = {name: self._narrow(each, deeper) for name, each in ready[key].items()}
        for key in _LISTS:
            if key in ready:
                deeper = inner or key == "allOf" if key != "prefixItems" else composed
                ready[key] = [self._narrow(each, deeper) for each in ready[key]]
        for key in ("items", "additionalProperties"):
            if key in ready:
                ready[key] = self._narrow(ready[key], composed)
        if joins and not composed:
            self._close_joined(ready, schema)
        elif not (composed or "enum" in ready or "const" in ready):
            self._close(ready, types)
        return ready

    def _keywords(self, schema: Mapping[str, Any]) -> Schema:
        """The same, its types in JSON's words and its numbers bounded, without what is a note here."""
        ready = check_keywords(schema)
        named = ready.get("type", [])
        if named:
            ready["type"] = _in_json(named) if isinstance(named, str) else list(map(_in_json, named))
        if ready.pop("nullable", None) is True and "type" in ready:
            types = types_named(ready)
            ready["type"] = types if "null" in types else [*types, "null"]
            if "enum" in ready and None not in ready["enum"]:
                ready["enum"] = [*ready["enum"], None]
        if ready.get("format") not in _FORMATS:
            ready.pop("format", None)
        if "pattern" in ready:
            check_repetitions(ready["pattern"])
            ready["pattern"] = narrow_classes(ready["pattern"])
        if not self._strict:
            for key in _UNHELD & set(ready):
                del ready[key]
            if _LOOKS.search(ready.get("pattern", "")):
                del ready["pattern"]
        return _bounded(ready) if "enum" not in ready and "const" not in ready else ready

    def _close(self, ready: Schema, types: list[str]) -> None:
        """Bound what a schema leaves open."""
        if not types and not any(key in ready for key in _OBJECT):
            return
        if "array" in types and "items" not in ready:
            ready["items"] = _any()
        if types and "object" not in types:
            return
        if "properties" not in ready and "patternProperties" not in ready:
            ready.setdefault("additionalProperties", _any())
        elif "additionalProperties" not in ready and "patternProperties" not in ready:
            named = _map(ready["properties"])
            for name in ready.get("required", ()):
                named.setdefault(name, _any())
            ready["properties"], ready["additionalProperties"] = named, False

    def _close_joined(self, ready: Schema, schema: Mapping[str, Any]) -> None:
        """Close an object that several schemas describe: it has the properties that any of them names."""
        beside = any(key in ready for key in _OBJECT) or "object" in types_named(ready)
        names = self._names(schema, _HOPS) if beside or "allOf" in ready else None
        if names:
            ready["properties"] = {**{name: _any() for name in names}, **_map(ready.get("properties"))}
            ready["additionalProperties"] = False

    def _names(self, schema: Any, hops: int) -> list[str] | None:
        """The properties that a schema and those it is joined with name or require; None where others are spoken of."""
        if not isinstance(schema, Mapping):
            return []
        self.visits.count()
        if not hops or "additionalProperties" in schema or "patternProperties" in schema:
            return None
        found = [*_map(schema.get("properties")), *schema.get("required", ())]
        parts = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
        parts += [resolve(self._root, schema["$ref"])] if "$ref" in schema else []
        for part in parts:
            more = self._names(part, hops - 1)
            if more is None:
                return None
            found += more
        return list(dict.fromkeys(found))


def _bounded(schema: Schema) -> Schema:
    """Numbers of a size that any reader of JSON can read, without exponents."""
    types = types_named(schema)
    most = REAL if "number" in types else WHOLE
    if not {"number", "integer"} & set(types):
        return schema
    found = dict(schema)
    for bound, other in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(other), bool):  # as drafts before the sixth had it
            exclusive = found.pop(other)
            if exclusive and bound in found:
                found[other] = found.pop(bound)
        sign = -1 if bound == "minimum" else 1
        stated = [found[key] * sign for key in (bound, other) if key in found]
        if not stated or min(stated) > most:
            found.pop(other, None)
            found[bound] = sign * most
    return found


def subschema(root: Schema, schema: Any) -> Schema:
    """A part of a tool's schema as one of its own, with what it refers to."""
    ready: Schema = {"enum": []} if schema is False else {} if schema is True else dict(schema)
    text = json.dumps(ready)
    if '"$ref"' not in text:
        return ready
    defs: Schema = {"root": _moved(root)} if _refers(ready) or _refers(root) else {}
    return {**_moved(ready), "$defs": {**defs, **anything()}}


def _refers(value: Any) -> bool:
    return any(ANY not in reference for reference in strings_under(value, "$ref"))


def strings_under(value: Any, key: str) -> Iterator[str]:
    """All texts that stand under a key anywhere in a schema, such as what it refers to under `$ref`."""
    if isinstance(value, Mapping):
        if isinstance(value.get(key), str):
            yield value[key]
        for each in value.values():
            yield from strings_under(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from strings_under(each, key)


def _moved(value: Any) -> Any:
    """The same where the root has become a definition."""
    if isinstance(value, Mapping):
        found = {key: _moved(each) for key, each in value.items()}
        reference = found.get("$ref")
        if isinstance(reference, str) and reference.startswith("#") and ANY not in reference:
            found["$ref"] = f"#/$defs/root{reference[1:]}"
        return found
    return [_moved(each) for each in value] if isinstance(value, list) else value


def _any() -> Schema:
    return {"$ref": f"#/$defs/{ANY}{DEPTH}"}


def _map(value: Any) -> Schema:
    return dict(value) if isinstance(value, Mapping) else {}


def _in_json(name: str) -> str:
    lowered = name.lower()
    return ALIASES.get(lowered, lowered if lowered in _TYPES else name)


def leaves_open(schema: Any) -> bool:
    """Whether any value is of a schema that was narrowed."""
    return says_nothing(schema) or (isinstance(schema, Mapping) and schema.get("$ref") == _any()["$ref"])
