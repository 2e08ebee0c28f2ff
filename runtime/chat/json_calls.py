"""Calls that a model wrote as JSON: `{"name": ..., "arguments": {...}}` or an array of such; values inside of calls.

It decides what is a call; where calls stand in an answer is each format's grammar.
"""

import json
from typing import Any

from moedge.runtime.chat.grammar import Body, WrittenCall

_ARGUMENTS = ("arguments", "parameters")
_KEYS = {"name", "id", "type", *_ARGUMENTS}


def dump(value: Any) -> str:
    """JSON text, characters as they are; ValueError for what JSON or UTF-8 cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError("not JSON") from error
    text.encode()  # refuses half a surrogate pair, which could not be sent on
    return text


def value_of(text: str) -> Any:
    """The value that a text spells as JSON, otherwise the text itself."""
    try:
        value, rest = _load(text)
        dump([value])  # nested once, as it will be among the arguments
    except ValueError:
        return text
    return text if rest else value


def read_calls(text: str) -> Body | None:
    """The calls that a text begins with, in order, and what stands behind them; None if it begins with none.

    A call with keys of no known meaning is none, so that nothing is lost silently.
    """
    calls: list[WrittenCall] = []
    rest = text
    while rest:
        try:
            value, after = _load(rest)
            calls += [_call(item) for item in (value if isinstance(value, list) else [value])]
        except ValueError:
            break
        rest = after
    return (calls, rest) if calls else None


def _load(text: str) -> tuple[Any, str]:
    """The JSON value that a text begins with, and the rest; ValueError if it names a key twice."""
    text = text.strip()
    try:
        value, end = _DECODER.raw_decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value, text[end:].lstrip()


def _call(value: Any) -> WrittenCall:
    if not isinstance(value, dict) or not set(value) <= _KEYS or value.get("type", "function") != "function":
        raise ValueError("not a call")
    name, identifier = value.get("name"), value.get("id")
    given = [value[key] for key in _ARGUMENTS if key in value]
    if not isinstance(name, str) or not name.strip() or not isinstance(identifier, str | None) or len(given) > 1:
        raise ValueError("not a call")
    arguments = {} if not given or given[0] is None else given[0]
    text = arguments if isinstance(arguments, str) else dump(arguments)  # some write the JSON into a string
    dump([name, text, identifier])
    return WrittenCall(name.strip(), text, identifier)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a key twice")
    return read


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
