"""Arguments that a model wrote as tags, a key and a value each: their texts, and the JSON that those texts mean.

Which tags is each format's own matter. No such format tells the text 12 from the number, so the tools' schemas do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moedge.runtime.chat.grammar import WrittenCall
from moedge.runtime.chat.json_calls import dump, near_value_of, value_of
from moedge.runtime.chat.schema_types import property_types, type_of

Types = Mapping[str, Mapping[str, frozenset[str]]]  # of a tool's argument, by their names; none where nothing is known

_TEXT = frozenset({"string"})
_NAME = re.compile(r"[^\s<>]+")
_BLANKS = re.compile(r"\s*")


@dataclass(frozen=True)
class Tags:
    """How a format tags arguments: `mark` is any tag, in group `key` if it opens a value, in `close` if it ends one.

    A model may forget that one. Then the value ends at the next key or at any other tag, which is one that ends the
    call; but a tag of this kind is text of the value if the next other one ends the value.
    """

    mark: re.Pattern[str]
    lines: bool  # whether tags stand on lines of their own, so that a newline beside them is layout

    def value(self, text: str) -> str:
        """A value as it was meant, without layout."""
        return text.removeprefix("\n").removesuffix("\n") if self.lines else text


def read_tagged(name: str, text: str, at: int, tags: Tags) -> tuple[WrittenCall, int] | None:
    """A call whose arguments stand one after the other from a place on, and the next place that is not blank.

    None if it names nothing, or an argument twice, if its last value was cut off, or for what UTF-8 cannot hold.
    """
    if not _NAME.fullmatch(name):
        return None
    arguments: dict[str, str] = {}
    marks = tags.mark.finditer(text, at)
    mark = next(marks, None)
    while mark is not None and mark["key"] is not None and text[at : mark.start()].strip() == "":
        key = mark["key"].strip()
        if not key or key in arguments:
            return None
        start = mark.end()
        mark = _end_of_value(text, start, marks, tags)
        if mark is None:
            return None
        if mark["close"] is not None:
            arguments[key] = tags.value(text[start : mark.start()])
            at = mark.end()
            mark = next(marks, None)
        else:
            arguments[key] = tags.value(text[start : mark.start()].rstrip())
            at = mark.start()
    try:
        dump([name, arguments])
    except ValueError:
        return None
    return WrittenCall(name, arguments), behind_blanks(text, at)


def behind_blanks(text: str, at: int) -> int:
    """The next place from here on that is not blank."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def argument_types(tools: Sequence[Mapping[str, Any]]) -> Types:
    """The JSON types that the schemas of tools in OpenAI's form allow; what a schema leaves open is left out."""
    functions = [_object(tool.get("function")) for tool in tools]
    return {str(function.get("name")): property_types(function.get("parameters")) for function in functions}


def as_json(arguments: Mapping[str, str], types: Mapping[str, frozenset[str]], words: Mapping[str, Any]) -> str:
    """The JSON object that texts mean: each is a value that its types allow, if it spells one.

    A text that is JSON, or one of `words`, is that value if the types allow it or nothing is known of them; otherwise a
    text where they allow one. Where they allow none, what is nearly JSON counts too, and all else is a text.
    """
    return dump({key: _value(text, types.get(key), words) for key, text in arguments.items()})


def _value(text: str, types: frozenset[str] | None, words: Mapping[str, Any]) -> Any:
    if types == _TEXT:
        return text
    written = text.strip()
    value = words[written] if written in words else value_of(text)
    if types is None or (type_of(value) in types and not isinstance(value, str)):
        return value
    if "string" in types:
        return text
    if "boolean" in types and written.lower() in ("true", "false"):
        return written.lower() == "true"
    near = near_value_of(text)
    return near if type_of(near) in types else value


def _end_of_value(text: str, start: int, marks: Iterator[re.Match[str]], tags: Tags) -> re.Match[str] | None:
    """The tag at which a value ends, the last one that was taken from the marks; None if the text ends before."""
    in_lines = tags.lines and text.startswith("\n", start)
    end = None
    for mark in marks:
        if mark["close"] is not None:
            return mark
        if mark["key"] is None:
            end = end or mark  # not sure yet
        elif end is not None or not in_lines or _begins_line(text, mark.start()):
            return end or mark
    return end


def _begins_line(text: str, at: int) -> bool:
    while text[at - 1] in " \t":
        at -= 1
    return text[at - 1] == "\n"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
