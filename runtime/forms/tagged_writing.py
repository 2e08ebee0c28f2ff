"""Arguments between tags, a key and a text each: for the values of a schema, texts that read as these values.

What a text means is runtime/chat/tagged.py's matter; here is the reverse of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.schema_types import resolve
from moedge.runtime.forms.argument_schema import REAL, WHOLE, leaves_open
from moedge.runtime.forms.declared import DeclaredTool
from moedge.runtime.forms.lark_rules import ANY_TEXT, LarkRules, Marks, lacking, quote
from moedge.runtime.forms.plain_texts import either, strings_of

KEY, BREAK = "", "\n?"  # in the opening of a `TagStyle`
_BLANKS = r"[\s\x00-\x20\x7f-\xa0]*"
_SPELLED = {  # what is written of a type where nothing bounds it
    "integer": r"-?(0|[1-9][0-9]{0,16})",
    "number": r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?",
    "boolean": "true|false",
    "null": "null",
}
_NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_READ = {"integer": _NUMBER, "number": _NUMBER, "boolean": "true|false|True|False", "null": "null|None"}
_BEGUN = {"integer": "[0-9-]", "number": "[0-9-]", "array": r"\[", "object": r"\{"} | {
    name: _READ[name] for name in ("boolean", "null")
}
_BOUNDS = {"minimum": -1, "maximum": 1}
_NUMERIC = ("exclusiveMinimum", "exclusiveMaximum", "multipleOf")


@dataclass(frozen=True)
class TagStyle:
    """How a format tags an argument: what stands before its value, with the `KEY`, and what ends it.

    A `BREAK` is a newline or nothing. No value may hold any of `others`. With `words`, booleans may be spelled as
    Python does.
    """

    opening: tuple[str, ...]
    end: str
    others: tuple[str, ...]
    words: bool = False


def tagged_arguments(tool: DeclaredTool, style: TagStyle, rules: LarkRules, marks: Marks) -> str:
    """The arguments of a call, in the order of the schema, each with its tags; UnfitTool for what cannot be written."""
    return tool.fit(lambda: _TaggedArguments(tool, style, rules, marks).all())


class _TaggedArguments:
    def __init__(self, tool: DeclaredTool, style: TagStyle, rules: LarkRules, marks: Marks) -> None:
        self._tool = tool
        self._style = style
        self._rules = rules
        self._marks = marks
        self._tags = (style.end.strip(), *style.others)  # which end a value, or begin the next, wherever they stand

    def all(self) -> str:
        shapes = []
        for shape in self._tool.shapes:
            written = []
            for name, schema in shape.schemas.items():
                if not name or name != name.strip() or any(sign in name for sign in "<>"):
                    raise MoedgeError(f"this model's chat format cannot write the name {name[:60]!r}")
                argument = self._argument(quote(name), schema, self._tool.types.get(name))
                written.append(argument if name in shape.required else f"{argument}?")
            if shape.other is not None:
                key = self._rules.word(r"/[A-Za-z_][A-Za-z0-9_]{0,63}/")
                written.append(f"{self._argument(key, shape.other, None)}?")
            shapes.append(self._rules.rule(" ".join(written) or '""'))
        return f"({' | '.join(shapes)})"

    def _argument(self, key: str, schema: Any, read_as: frozenset[str] | None) -> str:
        pieces = {KEY: key, BREAK: '"\\n"?'}
        opening = [pieces.get(piece) or self._marks.here(piece) for piece in self._style.opening]
        values = self._values(schema, read_as)
        if not values:
            raise MoedgeError("no value is of the schema of one of its properties")
        return self._rules.rule(f"{' '.join(opening)} ({' | '.join(values)})")

    def _values(self, schema: Any, read_as: frozenset[str] | None) -> list[str]:
        """What may be written for a value, up to the tag that ends it; `read_as` is what readers know of its types."""
        if read_as is None:
            return [self._text(ANY_TEXT)] if leaves_open(schema) else [self._json(schema)]
        own = self._tool.types_of(schema)
        if "string" not in read_as:
            found = [self._json(schema)]
            if self._style.words and own == {"boolean"} and self._plain(schema):
                found.append(f"({quote('True')} | {quote('False')}) {self._marks.here(self._style.end)}")
            return found
        others = read_as - {"string"}
        strings = strings_of(self._tool.schema, schema, self._tool.visits)
        meant = sorted(own & others)
        if all(name in _SPELLED for name in meant) and self._plain(schema):
            if strings == ANY_TEXT and set(meant) == others:
                return [self._text(ANY_TEXT)]  # whatever it reads as is fine
            read = [] if strings is None else [_but(strings, [_READ[name] for name in others if name in _READ], "")]
            body = either([*read, *(f"/{_SPELLED[name]}/" for name in meant)])
            return [] if body is None else [self._text(body)]
        found = [self._json(schema, frozenset(meant))] if meant else []
        if strings is not None:
            found.append(self._text(_but(strings, [_BEGUN[name] for name in others], "(?s:.*)")))
        return found

    def _text(self, body: str) -> str:
        end = self._style.end
        value = f"({body} & {lacking(self._tags)})"
        if end in self._marks.ids:
            return f"{self._rules.word(value)} {self._marks.here(end)}"
        return self._rules.word(f"{value} {quote(end)}")

    def _json(self, schema: Any, types: frozenset[str] | None = None) -> str:
        return f"{self._rules.rule(self._tool.value(schema, types, self._tags))} {self._marks.here(self._style.end)}"

    def _plain(self, schema: Any, hops: int = 16) -> bool:
        """Whether nothing but types bounds the values that are no strings."""
        self._tool.visits.count()
        if not isinstance(schema, Mapping):
            return True
        values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
        if not hops or any(not isinstance(value, str | None) for value in values):
            return False
        bounds = [schema[name] * sign for name, sign in _BOUNDS.items() if name in schema]
        if any(bound not in (REAL, WHOLE) for bound in bounds) or any(name in schema for name in _NUMERIC):
            return False
        parts = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, ())]
        if "$ref" in schema:
            parts.append(resolve(self._tool.schema, schema["$ref"]))
        return all(self._plain(part, hops - 1) for part in parts)


def _but(body: str, begun: list[str], more: str) -> str:
    if not begun:
        return body
    blanks = "" if more else _BLANKS
    return f"({body} & ~/{_BLANKS}({'|'.join(sorted(set(begun)))}){more}{blanks}/)"
