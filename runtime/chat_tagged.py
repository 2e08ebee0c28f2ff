"""Arguments that a model wrote as tags, a key and a value each, to JSON. Which tags is each format's own matter."""

import re
from typing import Any

from moedge.runtime.chat_grammar import Body, WrittenCall
from moedge.runtime.chat_json import dump, value_of


def read_tagged(name: str, text: str, argument: re.Pattern[str]) -> Body | None:
    """One call whose arguments are matches of `argument`, groups `key` and `value`; None if any other text is there.

    A value that is JSON is that value, any other text a string: the format does not tell them apart.
    """
    if not re.fullmatch(r"[^\s<>]+", name):
        return None
    arguments: dict[str, Any] = {}
    text, place = text.strip(), 0
    while place < len(text):  # one after the other: a search would look for each end again and again
        found = argument.match(text, place)
        key = found["key"].strip() if found else ""
        if found is None or key in arguments:
            return None
        arguments[key] = value_of(found["value"])
        place = found.end()
    try:
        return [WrittenCall(name, dump(arguments))], ""
    except ValueError:  # a value that UTF-8 cannot hold
        return None
