"""JSON whose strings hold none of some tags, for formats in which those tags would end the JSON."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moedge.runtime.forms.argument_schema import Schema, types_named

_MAPS = ("properties", "patternProperties", "$defs", "definitions")


def guard(schema: Any, tags: Sequence[str]) -> Any:
    """The same schema, of strings and free names without these tags; see `lacks`."""
    return _guarded(schema, f"^{lacks(tags)}$")


def lacks(tags: Sequence[str]) -> str:
    """A regular expression of all texts without these tags, each of which begins with `<` and has no second one.

    So a tag can only stand where a `<` begins: what follows each up to the next one is none of their rests.
    """
    return f"[^<]*(<{_other([tag[1:] for tag in tags])})*"


def _other(rests: Sequence[str]) -> str:
    """What has no `<` and begins with none of some rests of tags."""
    letters = sorted({rest[0] for rest in rests})
    listed = "".join(f"\\x{{{ord(letter):X}}}" for letter in letters)
    options = ["", f"[^<{listed}][^<]*"]
    for letter in letters:
        behind = [rest[1:] for rest in rests if rest[0] == letter]
        if all(behind):
            options.append(f"{re.escape(letter)}{_other(behind)}")
    return f"({'|'.join(options)})"


def _guarded(schema: Any, pattern: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found: Schema = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, Mapping):
            found[key] = {name: _guarded(each, pattern) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            found[key] = [_guarded(each, pattern) for each in value]
        elif key in ("items", "additionalProperties"):
            found[key] = _guarded(value, pattern)
        else:
            found[key] = value
    if "string" in types_named(found) and not any(key in found for key in ("enum", "const", "format")):
        if "pattern" in found:
            found["allOf"] = [*found.get("allOf", ()), {"pattern": pattern}]
        else:
            found["pattern"] = pattern
    if isinstance(found.get("additionalProperties"), Mapping) and not found.get("properties"):
        found.setdefault("patternProperties", {pattern: found.pop("additionalProperties")})
        found.setdefault("additionalProperties", False)
    return found
