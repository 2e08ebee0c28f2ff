"""Arguments that a model wrote as tags, a key and a value each, to JSON. Which tags is each format's own matter."""

import re
from typing import Any

from moedge.runtime.chat_grammar import WrittenCall
from moedge.runtime.chat_json import dump, value_of


def read_tagged(name: str, text: str, argument: re.Pattern[str]) -> tuple[WrittenCall, str] | None:
    """One call and the text behind it; its arguments are the matches of `argument`, groups `key` and `value`.

    None if it names nothing or an argument twice. A value that is JSON is that value, any other text a string: the
    format does not tell them apart.
    """
    if not re.fullmatch(r"[^\s<>]+", name):
        return None
    arguments: dict[str, Any] = {}
    place = 0
    while found := argument.match(text, place):  # one after the other: a search would look for each end again and again
        key = found["key"].strip()
        if key in arguments:
            return None
        arguments[key] = value_of(found["value"])
        place = found.end()
    try:
        return WrittenCall(name, dump(arguments)), text[place:].lstrip()
    except ValueError:  # a value that UTF-8 cannot hold
        return None
