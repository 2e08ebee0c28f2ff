"""What forms refuse, and how large they may be: schemas that mean no good, many tools, long texts that are forced."""

import json
import re

import pytest
from held_answers import check_calls, reader, required, tool
from hypothesis import given
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.forms.answer_form import UnfitTool
from moedge.runtime.forms.guarded_strings import lacks
from moedge.runtime.forms.patterns import check_repetitions, narrow_classes, search
from moedge.runtime.vocabulary import LONGEST

KINDS = ("hermes", "qwen3_coder", "gemma4", "lfm2")


def chain(key, last):
    """Forty definitions, each of which refers to the next eight times."""
    links = {f"d{i}": {key: [{"$ref": f"#/$defs/d{i + 1}"}] * 8} for i in range(40)}
    return links | {"d40": last}


def argument(schema):
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


NO_SCHEMAS = {
    "required": {"required": 5},
    "a required name": {"required": [1]},
    "properties": {"properties": [1]},
    "additionalProperties": {"additionalProperties": "x"},
    "type": argument({"type": 5}),
    "enum": argument({"enum": 5}),
    "anyOf": argument({"anyOf": [5]}),
    "pattern": argument({"type": "string", "pattern": 5}),
    "an open group": argument({"type": "string", "pattern": "("}),
    "minLength": argument({"type": "string", "minLength": "x"}),
    "minItems": argument({"type": "array", "minItems": -1}),
    "minimum": argument({"type": "integer", "minimum": "x"}),
    "$ref": argument({"$ref": 5}),
    "a reference elsewhere": argument({"$ref": "http://x/y"}),
    "nothing": argument(False),
    "nothing between": argument({"type": "integer", "minimum": 10, "maximum": 1}),
    "itself": {"$ref": "#"},
    "texts without end": {"properties": {"a": {"type": "string", "$ref": "#/properties/a"}}},
    "many anyOf": {"anyOf": [{"$ref": "#/$defs/d0"}], "$defs": chain("anyOf", {"type": "object"})},
    "deep": argument(json.loads('{"items":' * 70 + "{}" + "}" * 70)),
    "long": argument({"description": "x" * (1 << 16)}),
    "often": argument({"type": "string", "pattern": "(a{200}){200}"}),
}


@pytest.mark.parametrize("schema", NO_SCHEMAS.values(), ids=NO_SCHEMAS)
@pytest.mark.parametrize("chat_format", KINDS)
def test_what_is_no_schema_names_its_tool(chat_format, schema):
    with pytest.raises(UnfitTool, match=r"^the arguments of bad cannot be held to its parameters: .*\.$") as refused:
        reader(chat_format).grammar(required(tool("good"), tool("bad", schema)))
    assert refused.value.tool == "bad"
    assert len(str(refused.value)) < 330


@pytest.mark.parametrize("chat_format", KINDS)
@pytest.mark.parametrize("key", ["allOf", "anyOf"])
def test_references_that_multiply_are_looked_at_so_often_at_most(chat_format, key):
    held = reader(chat_format)
    schema = argument({"type": "string", key: [{"$ref": "#/$defs/d0"}]}) | {"$defs": chain(key, {"type": "string"})}
    try:
        assert held.grammar(required(tool("f", schema)))
    except UnfitTool as refused:
        assert re.search("without end|too often|too large", str(refused))


def test_what_nobody_can_hold_to_is_left_to_the_model_unless_the_tool_is_strict():
    for schema in (
        {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
        {"type": "string", "pattern": "^(?!x)y"},
        {"not": {"type": "null"}},
    ):
        assert reader("hermes").grammar(required(tool("f", argument(schema))))
        with pytest.raises(UnfitTool):
            reader("hermes").grammar(required(tool("f", argument(schema), strict=True)))
    notes = {"type": "string", "format": "color", "title": "t", "x-note": 1}
    assert reader("hermes").grammar(required(tool("f", argument(notes), strict=True)))


@pytest.mark.parametrize("schema", [{"type": "Str"}, {"type": "STRING", "nullable": True}, {"type": "text"}], ids=str)
def test_types_in_the_words_of_other_languages(schema):
    form = required(tool("f", argument(schema)), most_calls=1)
    if schema["type"] == "text":
        with pytest.raises(UnfitTool, match="text"):
            reader("hermes").grammar(form)
        return
    (text,) = reader("hermes").answers(form, 1)
    (call,) = reader("hermes").read(text, form)["tool_calls"]
    assert isinstance(json.loads(call["function"]["arguments"])["a"], str | None)


@pytest.mark.parametrize("chat_format", KINDS)
def test_as_many_tools_as_a_request_may_have(chat_format):
    def schema(i):
        return {
            "type": "object",
            "properties": {f"p{i}": {"type": "string"}, "e": {"enum": [f"v{i}", "w"]}, "o": {"type": "object"}},
            "required": ["e"],
        }

    form, held = required(*(tool(f"tool_{i}", schema(i)) for i in range(128)), most_calls=1), reader(chat_format)
    for text in held.answers(form, 2):
        assert check_calls(held.read(text, form), form)


def test_a_long_text_that_is_forced_comes_in_parts():
    held = reader("hermes")
    constraint = held.grammars.constraint(AnswerGrammar("regex", "a{9000}b"))
    said = []
    while not constraint.done:
        assert 0 < len(constraint.forced) <= LONGEST
        said.append(constraint.forced[0])
        constraint.add(said[-1])
    assert held.words.decode(said) == "a" * 9000 + "b"


@pytest.mark.parametrize(
    ("pattern", "times"),
    [
        *(("a{10000}", 0), ("a{10001}", 10001), ("a{2,99999}", 99999), ("(a{9000}|b{9000})c", 0)),
        *(("(a{100}){100}", 0), ("((ab){101}c){100}", 10100), ("[{9}]a{20000,}", 20000), ("x{1,2}" * 5000, 0)),
        *((r"\(a{20000}\)", 20000), ('start: "a"~20000', 20000), ('start: "a"~1..20000', 20000)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_parts_are_repeated_so_often_at_most(pattern, times):
    if times:
        with pytest.raises(MoedgeError, match=f"repeats a part {times} times, 10000 are the most"):
            check_repetitions(pattern)
    else:
        check_repetitions(pattern)


TAGS = ("</parameter>", "</function>", "<tool_call>", "<tool_call_x>")


@given(st.lists(st.sampled_from([*TAGS, "<", "</", "tool_call>", "</para", "x", "\n", "<<tool"]), max_size=6))
def test_texts_without_tags_are_described_exactly(parts):
    text = "".join(parts)
    pattern = re.sub(r"\\x\{(\w+)\}", lambda found: re.escape(chr(int(found[1], 16))), lacks(TAGS))
    assert (re.fullmatch(pattern, text) is None) == any(tag in text for tag in TAGS)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", "/(?s:.*)(a)(?s:.*)/"),
        ("^a$", "/(a)/"),
        ("^a|b$", "/(a)(?s:.*)|(?s:.*)(b)/"),
        ("^(a|b)/c$", r"/((a|b)\/c)/"),
        ("^[|)/^$]$", r"/([|)\/^$])/"),
        ("a\n[\r]", r"/(?s:.*)(a\n[\r])(?s:.*)/"),
        (r"^\d[\w.]$", "/([0-9][A-Za-z0-9_.])/"),
        ("^a\\$$", "/(a\\$)/"),
    ],
)
def test_patterns_find_something_or_describe_all(pattern, found):
    assert search(pattern) == found
    form = required(tool("f", argument({"type": "string", "pattern": pattern})), most_calls=1)
    assert reader("qwen3_coder").grammar(form)


def test_only_ascii_counts_as_digits_and_letters():
    assert narrow_classes(r"\d[^\d\w]\D\\d") == r"[0-9][^0-9A-Za-z0-9_]\D\\d"


def test_tuples_in_the_words_of_earlier_drafts():
    pair = {
        "type": "array",
        "items": [{"type": "string"}, {"type": "boolean"}],
        "additionalItems": False,
        "minItems": 2.0,
    }
    form, held = required(tool("f", argument(pair)), most_calls=1), reader("hermes")
    (call,) = held.read(*held.answers(form, 1), form)["tool_calls"]
    assert [type(each) for each in json.loads(call["function"]["arguments"])["a"]] == [str, bool]
