"""Arguments that a model wrote as tags, a key and a value each: their texts, and the JSON that those texts mean.

Which tags is each format's own matter. No such format tells the text 12 from the number, so the tools' schemas do.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moedge.runtime.chat.grammar import WrittenCall
from moedge.runtime.chat.json_calls import dump, value_of

Types = Mapping[str, Mapping[str, frozenset[str]]]  # of a tool's argument, by their names; none where nothing is known


def read_tagged(name: str, text: str, argument: re.Pattern[str]) -> tuple[WrittenCall, str] | None:
    """One call and the text behind it; its arguments are the matches of `argument`, groups `key` and `value`.

    None if it names nothing, or an argument twice, or holds what UTF-8 cannot.
    """
    if not re.fullmatch(r"[^\s<>]+", name):
        return None
    arguments: dict[str, str] = {}
    place = 0
    while found := argument.match(text, place):  # one after the other: a search would look for each end again and again
        key = found["key"].strip()
        if key in arguments:
            return None
        arguments[key] = found["value"]
        place = found.end()
    try:
        dump(arguments)
    except ValueError:
        return None
    return WrittenCall(name, arguments), text[place:].lstrip()


def argument_types(tools: Sequence[Mapping[str, Any]]) -> Types:
    """The JSON types that the schemas of tools in OpenAI's form allow; what a schema leaves open is left out."""
    types = {}
    for tool in tools:
        function = _object(tool.get("function"))
        properties = _object(_object(function.get("parameters")).get("properties"))
        types[str(function.get("name"))] = {key: _types(_object(schema)) for key, schema in properties.items()}
    return types


def as_json(arguments: Mapping[str, str], types: Mapping[str, frozenset[str]], words: Mapping[str, Any]) -> str:
    """The JSON object that texts mean. An argument that must be a string is its text.

    Of the others a text that is JSON, or one of `words`, is that value, and any other is a string.
    """
    return dump({key: _value(text, types.get(key, frozenset()), words) for key, text in arguments.items()})


def _value(text: str, types: frozenset[str], words: Mapping[str, Any]) -> Any:
    written = text.strip()
    value = words[written] if written in words else value_of(text)
    is_text = "string" in types and types <= {"string", "null"}
    return text if is_text and not (value is None and "null" in types) else value


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    options = schema.get("anyOf")
    schemas = [schema, *map(_object, options if isinstance(options, list) else [])]
    found = [schema.get("type") for schema in schemas]
    names = [name for types in found for name in (types if isinstance(types, list) else [types])]
    return frozenset(name for name in names if isinstance(name, str))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
