"""What form an answer's content is asked to have, in the words of OpenAI, vLLM and llama.cpp."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.edge_server.fields import Fields, bad_field, bounded_text
from moedge.runtime.constraint import MOST_CHARACTERS, AnswerGrammar
from moedge.runtime.forms.written_grammars import as_lark, one_of

ANY_OBJECT = json.dumps({"type": "object"})
MOST_CHOICES = 1024
KINDS = ("text", "json_object", "json_schema", "regex", "grammar")


@dataclass(frozen=True)
class AskedContent:
    """The form that a content must have, and the field that says so; no grammar: free text."""

    grammar: AnswerGrammar | None = None
    field: str = "response_format"


def json_content(schema: str | None) -> AnswerGrammar | None:
    """JSON of a schema, if there is one."""
    return None if schema is None else AnswerGrammar("json_schema", schema)


def read_content(fields: Fields) -> AskedContent:
    """The form of a content; ApiError 400 for one that is not known, or for two of them."""
    asked = [AskedContent(_response_format(fields))]
    for name, read in _NAMED.items():
        value = fields.take(name)
        if value not in (None, "", {}, []):
            asked.append(AskedContent(read(value, name), name))
    said = [each for each in asked if each.grammar is not None]
    if len(said) > 1:
        raise bad_field(said[1].field, f"{said[0].field} gives the answer a form already; send one of them")
    return said[0] if said else asked[0]


def _response_format(fields: Fields) -> AnswerGrammar | None:
    value = fields.take("response_format")
    if value is None:
        return None
    form = Fields(value, "response_format")
    kind = form.take("type")
    found: AnswerGrammar | None = None
    if kind == "json_object":
        given = form.take("schema")  # llama.cpp's and Together's place for one
        found = json_content(ANY_OBJECT) if given is None else _schema(given, form.path("schema"))
    elif kind == "json_schema":
        described = form.inner("json_schema")
        found = _schema(described.take("schema"), described.path("schema"))
        described.ignore(("name", "description", "strict"))  # it is kept to the letter whatever `strict` says
        described.done()
    elif kind == "regex":
        name = "pattern" if form.take("regex") is None else "regex"
        found = _regex(form.take(name), form.path(name))
    elif kind == "grammar":
        found = _grammar(form.take("grammar"), form.path("grammar"))
    elif kind != "text":
        reason = f"it must be one of {', '.join(KINDS)}"
        raise bad_field(form.path("type"), reason, code="unsupported_parameter")
    form.done()
    return found


def _schema(value: object, where: str) -> AnswerGrammar:
    if not isinstance(value, dict):
        raise bad_field(where, "it must be a JSON schema, which is an object")
    return AnswerGrammar("json_schema", json.dumps(value))


def _written_schema(value: object, where: str) -> AnswerGrammar:
    """A schema, which some clients write into a string."""
    if not isinstance(value, str):
        return _schema(value, where)
    return AnswerGrammar("json_schema", _text(value, where))


def _regex(value: object, where: str) -> AnswerGrammar:
    return AnswerGrammar("regex", _text(value, where))


def _grammar(value: object, where: str) -> AnswerGrammar:
    try:
        return as_lark(_text(value, where))
    except MoedgeError as error:
        raise bad_field(where, str(error).rstrip(".")) from None


def _choice(value: object, where: str) -> AnswerGrammar:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise bad_field(where, "it must be a list of texts that are not empty")
    if len(value) > MOST_CHOICES or sum(map(len, value)) > MOST_CHARACTERS:
        raise bad_field(where, f"at most {MOST_CHOICES} texts of {MOST_CHARACTERS} characters together are accepted")
    return one_of(value)


def _structured(value: object, where: str) -> AnswerGrammar | None:
    """What vLLM calls structured outputs."""
    form = Fields(value, where)
    found = [read(given, form.path(name)) for name, read in _STRUCTURED.items() if (given := form.take(name))]
    if form.flag("json_object"):
        found.append(AnswerGrammar("json_schema", ANY_OBJECT))
    if len(found) > 1:
        raise bad_field(where, "it gives the answer more than one form")
    form.ignore(("disable_fallback", "disable_any_whitespace"))  # there is neither
    form.only("disable_additional_properties", False)
    for name in ("whitespace_pattern", "structural_tag"):
        form.only(name)
    form.done()
    return found[0] if found else None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise bad_field(where, "it must be a text that is not empty")
    return bounded_text(value, where, MOST_CHARACTERS)


_STRUCTURED: Mapping[str, Callable[[Any, str], AnswerGrammar]] = {
    "json": _written_schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}
_NAMED: Mapping[str, Callable[[Any, str], AnswerGrammar | None]] = {
    **{f"guided_{name}": read for name, read in _STRUCTURED.items()},
    "structured_outputs": _structured,
    "json_schema": _written_schema,  # of llama.cpp, as is the next
    "grammar": _grammar,
}
