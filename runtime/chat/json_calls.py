"""Calls that a model wrote as JSON: `{"name": ..., "arguments": {...}}` or an array of such; values inside of calls.

It decides what is a call; where calls stand in an answer is each format's grammar. What is nearly JSON, literals.py
reads.
"""

import json
from collections.abc import Callable
from typing import Any

from moedge.runtime.chat.grammar import Body, WrittenCall
from moedge.runtime.chat.literals import LiteralReader, RepeatedKeys

_ARGUMENTS = ("arguments", "parameters")
_KEYS = {"name", "id", "type", *_ARGUMENTS}
_OUTER_KEYS = {"function", "id", "type"}  # of a call as OpenAI's messages hold it


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
        value, end = _strict(_DECODER, text, _skip(text, 0))
        dump([value])  # nested once, as it will be among the arguments
    except ValueError:
        return text
    return value if end == len(text) else text


def near_value_of(text: str) -> Any:
    """The value that a text spells as JSON or nearly so, otherwise the text itself."""
    reader = LiteralReader(text)
    try:
        value = reader.value()
        dump([value])
    except ValueError:
        return text
    return value if reader.end() else text


def read_calls(text: str, meant: Callable[[Any], Any] | None = None) -> Body | None:
    """The calls that a text begins with, in order, and what stands behind them; None if it begins with none.

    An empty array says that nothing is called. A call with keys of no known meaning is none, so that nothing is lost
    silently. `meant` puts one that a format writes with keys of its own into those known here.
    """
    calls: list[WrittenCall] = []
    begin = at = _skip(text, 0)
    strictly = True
    while at < len(text):
        try:
            value, end, strictly = _load(text, at, strictly)
            items = value if isinstance(value, list) else [value]
            calls += [_call(meant(item) if meant else item) for item in items]
        except ValueError:
            break
        at = end
    return (calls, text[at:].rstrip()) if at > begin else None


def _load(text: str, at: int, strictly: bool) -> tuple[Any, int, bool]:
    """The value at a place, the next place behind it, and whether all was JSON so far; ValueError if there is none."""
    if strictly:
        try:
            return *_strict(_LENIENT_DECODER, text, at), True
        except json.JSONDecodeError:
            pass  # from here on not tried again: its message alone takes as long as all the text before it
    reader = LiteralReader(text, at)
    value = reader.value()
    return value, _skip(text, reader.at), False


def _strict(decoder: json.JSONDecoder, text: str, at: int) -> tuple[Any, int]:
    """The JSON value at a place and the next place behind it; ValueError if there is none."""
    try:
        value, end = decoder.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value, _skip(text, end)


def _skip(text: str, at: int) -> int:
    """The place of the first character from here on that is not blank."""
    while text[at : at + 1].isspace():
        at += 1
    return at


def _call(value: Any) -> WrittenCall:
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(value, RepeatedKeys) or isinstance(function, RepeatedKeys):
        raise ValueError("a key of the call twice")
    if isinstance(function, dict) and set(value) <= _OUTER_KEYS:
        value = {**function, **{key: value[key] for key in value if key != "function"}}
    if not isinstance(value, dict) or not set(value) <= _KEYS or value.get("type", "function") != "function":
        raise ValueError("not a call")
    name, identifier = value.get("name"), value.get("id")
    given = [value[key] for key in _ARGUMENTS if key in value]
    if not isinstance(name, str) or not name.strip() or not isinstance(identifier, str | None) or len(given) > 1:
        raise ValueError("not a call")
    text = _arguments(given[0] if given else None)
    dump([name, text, identifier])
    return WrittenCall(name.strip(), text, identifier)


def _arguments(given: Any) -> str:
    """Arguments as JSON text; some models write that text into a string, well or nearly so."""
    if given is None or given == "":
        return "{}"
    if not isinstance(given, str):
        return dump(given)
    return given if isinstance(value_of(given), dict) else dump(near_value_of(given))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    return read if len(read) == len(pairs) else RepeatedKeys(read)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_LENIENT_DECODER = json.JSONDecoder(object_pairs_hook=_object, strict=False)  # control characters stand in strings
