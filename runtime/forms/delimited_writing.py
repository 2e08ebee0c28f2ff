"""Arguments as Gemma 4 writes them, `{city:<|"|>Oslo<|"|>,days:3}`: bare keys, strings between delimiters.

What is neither a string, nor a list or an object whose parts are known, is written as JSON, which its readers
understand too. Strings have no escapes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from moedge.runtime.chat.delimited import DELIMITER
from moedge.runtime.forms.comma_lists import ordered, repeated
from moedge.runtime.forms.declared import DeclaredTool
from moedge.runtime.forms.lark_rules import LarkRules, Marks, lacking, quote
from moedge.runtime.forms.plain_texts import strings_of

_BARE = re.compile(r"[^\W\d][\w$.-]*")
_DEPTH = 8  # of lists and objects in this syntax; those within are JSON
_JOINED = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const")
_NOTES = frozenset(("type", "title", "description", "default", "examples", "$comment", "deprecated"))


def delimited_arguments(tool: DeclaredTool, rules: LarkRules, marks: Marks) -> str:
    """The arguments of a call, in braces; UnfitTool for what cannot be written so."""
    return tool.fit(lambda: _DelimitedArguments(tool, rules, marks).all())


class _DelimitedArguments:
    def __init__(self, tool: DeclaredTool, rules: LarkRules, marks: Marks) -> None:
        self._tool = tool
        self._rules = rules
        self._marks = marks

    def all(self) -> str:
        shapes = []
        for shape in self._tool.shapes:
            inner = self._members(shape.schemas, shape.required, _DEPTH)
            if shape.other is not None:
                key = self._rules.word(r"/[A-Za-z_][A-Za-z0-9_]{0,63}/")
                inner = f'({key} ":" {self._value(shape.other, _DEPTH)})?'
            shapes.append(f'"{{" {inner} "}}"')
        return self._rules.rule(" | ".join(shapes))

    def _members(self, schemas: Mapping[str, Any], required: frozenset[str], depth: int) -> str:
        members = []
        for name, schema in schemas.items():
            key = name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
            written = self._rules.rule(f"{quote(f'{key}:')} {self._value(schema, depth)}")
            members.append((written, name in required))
        return ordered(self._rules, members, ",")

    def _value(self, schema: Any, depth: int) -> str:
        types = self._tool.types_of(schema)
        options = []
        if "string" in types and (strings := strings_of(self._tool.schema, schema, self._tool.visits)) is not None:
            mark = self._marks.here(DELIMITER)
            if DELIMITER in self._marks.ids:
                options.append(f"{mark} {self._rules.word(f'({strings} & {lacking((DELIMITER,))})')} {mark}")
            else:
                body = f"{quote(DELIMITER)} ({strings} & {lacking((DELIMITER,))}) {quote(DELIMITER)}"
                options.append(self._rules.word(body))
        others = types - {"string"}
        own = self._own_syntax(schema, depth) if isinstance(schema, Mapping) else None
        if own is not None:
            options.append(own)
        elif others:
            options.append(self._rules.rule(self._tool.value(schema, others if options else None)))
        return self._rules.rule(" | ".join(options)) if options else self._rules.rule(self._tool.value(schema))

    def _own_syntax(self, schema: Mapping[str, Any], depth: int) -> str | None:
        """A list or an object whose parts are known, None for anything else."""
        if not depth or any(key in schema for key in _JOINED):
            return None
        keywords = set(schema) - _NOTES
        if schema.get("type") == "array" and keywords <= {"items", "minItems", "maxItems"} and keywords:
            item = self._value(schema.get("items", True), depth - 1)
            least = schema.get("minItems", 0)
            return f'"[" {repeated(item, quote(","), schema.get("maxItems"), least)} "]"'
        closed = schema.get("additionalProperties") is False
        if schema.get("type") == "object" and closed and keywords <= {"properties", "required", "additionalProperties"}:
            required = frozenset(schema.get("required", ()))
            return f'"{{" {self._members(schema.get("properties", {}), required, depth - 1)} "}}"'
        return None
