"""Calls in Python's syntax, `f(city="Oslo", days=3)`, as LFM2 writes them; values as JSON but for Python's words."""

import re
from collections.abc import Mapping
from typing import Any

from moedge.runtime.forms.answer_form import UnfitTool
from moedge.runtime.forms.comma_lists import ordered
from moedge.runtime.forms.declared import DeclaredTool
from moedge.runtime.forms.lark_rules import LarkRules, quote

_NAME = re.compile(r"[^\W\d][\w.-]*")
_KEY = re.compile(r"[^\W\d][\w-]*")
_WORDS = {"boolean": "True|False", "null": "None"}
_NOTES = ("title", "description", "default", "examples", "$comment", "deprecated")


def python_call(tool: DeclaredTool, rules: LarkRules) -> str | None:
    """A call with named arguments; None for a tool whose name or arguments Python's syntax has no place for."""
    if not _NAME.fullmatch(tool.name):
        return None
    try:
        shapes = tool.shapes
    except UnfitTool:
        return None
    if any(shape.other is not None or not all(map(_KEY.fullmatch, shape.schemas)) for shape in shapes):
        return None
    lists = []
    for shape in shapes:
        written = [
            (rules.rule(f"{quote(f'{name}=')} {_value(tool, schema, rules)}"), name in shape.required)
            for name, schema in shape.schemas.items()
        ]
        lists.append(ordered(rules, written, ", ") or '""')
    return rules.rule(f"{quote(f'{tool.name}(')} ({' | '.join(lists)}) {quote(')')}")


def _value(tool: DeclaredTool, schema: Any, rules: LarkRules) -> str:
    if isinstance(schema, Mapping):
        said = {key: value for key, value in schema.items() if key not in _NOTES}
        if set(said) == {"type"} and (words := _WORDS.get(str(said["type"]))):
            return rules.word(f"/{words}/")
        if set(said) == {"anyOf"} and isinstance(said["anyOf"], list) and said["anyOf"]:
            return rules.rule(" | ".join(_value(tool, each, rules) for each in said["anyOf"]))
    return rules.rule(tool.value(schema))
