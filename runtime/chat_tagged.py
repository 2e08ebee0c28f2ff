"""Arguments that a model wrote as tags, a key and a value each, to JSON. Which tags is each format's own matter."""

import re

from moedge.runtime.chat_grammar import Body, WrittenCall
from moedge.runtime.chat_json import dump, value_of


def read_tagged(name: str, text: str, argument: re.Pattern[str]) -> Body | None:
    """One call whose arguments are the matches of `argument`, groups `key` and `value`; None if other text is there.

    A value that is JSON is that value, any other text a string: the format does not tell them apart.
    """
    found = list(argument.finditer(text))
    keys = [match["key"].strip() for match in found]
    if not re.fullmatch(r"[^\s<>]+", name) or argument.sub("", text).strip() or len(set(keys)) != len(keys):
        return None
    try:
        values = [value_of(match["value"]) for match in found]
        return [WrittenCall(name, dump(dict(zip(keys, values, strict=True))))], ""
    except ValueError:  # a value that JSON cannot hold
        return None
