"""Strings of a JSON schema as a terminal of their bare texts, for formats that write arguments without quotes."""

from collections.abc import Mapping, Sequence
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.schema_types import resolve
from moedge.runtime.forms.argument_schema import Schema, types_named
from moedge.runtime.forms.lark_rules import ANY_TEXT, letters
from moedge.runtime.forms.patterns import MOST_TIMES, search
from moedge.runtime.forms.visits import Visits

DEPTH = 32  # of schemas that refer to others
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"  # days that every month has
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,3}}"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PATH = r"[A-Za-z0-9_.~!$&'()*+,;=:@-]"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P([0-9]{1,6}W|[0-9]{1,6}D(T[0-9]{1,6}[HMS])?|T[0-9]{1,6}[HMS])",
    "email": rf"[A-Za-z0-9_+-]{{1,32}}(\.[A-Za-z0-9_+-]{{1,16}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_OCTET}(\.{_OCTET}){{3}}",
    "ipv6": "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "uri": rf"[a-z][a-z0-9+.-]{{0,15}}:(\/\/{_HOST})?(\/{_PATH}*)*(\?{_PATH}*)?(#{_PATH}*)?",
}


def strings_of(root: Schema, schema: Any, visits: Visits, depth: int = DEPTH) -> str | None:
    """A terminal's body of the strings that are of a schema, None if none is; MoedgeError for what it cannot say.

    `root` is what references lead into; `visits` counts.
    """
    visits.count()
    if not isinstance(schema, Mapping):
        return None if schema is False else ANY_TEXT
    if not depth:
        raise MoedgeError("its strings refer to one another without end")
    types = types_named(schema)
    if types and "string" not in types:
        return None
    for key in ("enum", "const"):
        if key in schema:
            return _listed(schema["enum"] if key == "enum" else [schema["const"]], schema, key)
    parts: list[str | None] = [_own(schema)]
    if "$ref" in schema:
        parts.append(strings_of(root, resolve(root, schema["$ref"]), visits, depth - 1))
    parts += [strings_of(root, each, visits, depth - 1) for each in schema.get("allOf", ())]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            found = [strings_of(root, each, visits, depth - 1) for each in schema[key]]
            parts.append(either([each for each in found if each is not None]))
    said = [part for part in parts if part is not None]
    if len(said) < len(parts):
        return None
    more = list(dict.fromkeys(part for part in said if part != ANY_TEXT))
    return f"({' & '.join(more)})" if more else ANY_TEXT


def either(bodies: Sequence[str]) -> str | None:
    """One of several, None if there is none."""
    return f"({' | '.join(dict.fromkeys(bodies))})" if bodies else None


def _own(schema: Mapping[str, Any]) -> str:
    """What a schema says of strings itself."""
    parts = []
    if "pattern" in schema:
        parts.append(search(schema["pattern"]))
    low, high = (schema.get(key) for key in ("minLength", "maxLength"))
    if low or high is not None:
        if (low or 0) > MOST_TIMES:
            raise MoedgeError(f"minLength is {low}, {MOST_TIMES} is the most in this model's chat format")
        parts.append(f"/(?s:.){{{low or 0},{'' if high is None else min(high, MOST_TIMES)}}}/")
    if schema.get("format") in _FORMATS:
        parts.append(f"/{_FORMATS[schema['format']]}/")
    return f"({' & '.join(parts)})" if parts else ANY_TEXT


def _listed(values: list[Any], schema: Mapping[str, Any], key: str) -> str | None:
    strings = [value for value in values if isinstance(value, str)]
    if strings and (beside := set(schema) & {"pattern", "minLength", "maxLength", "format", "allOf", "anyOf", "$ref"}):
        raise MoedgeError(f"{key} stands beside {min(beside)}; say which of the values are meant")
    return either([f"/({letters(each)})/" for each in strings])
