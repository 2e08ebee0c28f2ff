"""Calls held to their tools' schemas, in every chat format: of a model without any sense, all of them are well made."""

import pytest
from held_answers import CALL_FORMATS, check_calls, check_required, reader, required, tool

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "next": {"$ref": "#/$defs/point"}},
    "required": ["x"],
}
SCHEMAS = {
    "no parameters": None,
    "no properties": {"type": "object"},
    "nothing": {},
    "text, number, boolean": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"}},
        "required": ["city"],
    },
    "nested": {
        "type": "object",
        "properties": {
            "where": {
                "type": "object",
                "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                "required": ["lat"],
            },
            "days": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["where", "days"],
    },
    "bounded texts": {
        "type": "object",
        "properties": {
            "unit": {"enum": ["c", "f"]},
            "code": {"type": "string", "pattern": r"^[A-Z]{2}\d$"},
            "word": {"type": "string", "minLength": 2, "maxLength": 4},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["unit", "code", "word", "day"],
    },
    "several types": {
        "type": "object",
        "properties": {
            "maybe": {"type": ["string", "null"]},
            "id": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5}]},
            "level": {"enum": [1, "auto", None]},
            "small": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        },
        "required": ["maybe", "id", "level"],
    },
    "letters of all kinds": {
        "type": "object",
        "properties": {"größe": {"type": "string"}, "名前": {"const": "é☃"}, "a b": {"type": "number"}},
        "required": ["größe", "名前"],
    },
    "references": {
        "type": "object",
        "properties": {"point": {"$ref": "#/$defs/point"}, "any": {}, "object": {"type": "object"}},
        "required": ["point", "any", "object"],
        "$defs": {"point": POINT},
    },
    "all of several": {
        "allOf": [
            {"type": "object", "properties": {"a": {}, "o": {"properties": {"x": {"type": "integer"}}}}},
            {
                "properties": {"o": {"type": "object", "required": ["y"]}, "c": {"type": "array"}},
                "required": ["o", "c"],
            },
        ]
    },
    "one of several objects": {
        "type": "object",
        "properties": {
            "v": {
                "anyOf": [
                    {"type": "object", "properties": {"k": {"const": "a"}, "n": {"type": "number"}}, "required": ["k"]},
                    {"type": "object", "properties": {"k": {"const": "b"}, "s": {"type": "string"}}, "required": ["s"]},
                    {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
                ]
            }
        },
        "required": ["v"],
    },
    "lists of so many": {
        "type": "object",
        "properties": {
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False},
            "map": {"type": "object", "additionalProperties": {"type": "array", "items": {"minLength": 1}}},
        },
        "required": ["pair", "map"],
    },
    "any name": {"type": "object", "additionalProperties": {"type": "integer"}},
    "either": {
        "type": "object",
        "properties": {"all": {"type": "boolean"}},
        "anyOf": [
            {"properties": {"name": {"type": "string"}}, "required": ["name"]},
            {"properties": {"id": {"type": "integer"}}, "required": ["id"]},
        ],
    },
}


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("parameters", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("chat_format", CALL_FORMATS)
def test_required_calls_are_of_the_schema(chat_format, parameters, tokens):
    check_required(chat_format, required(tool("f", parameters), most_calls=2), 1, tokens)


@pytest.mark.parametrize("chat_format", CALL_FORMATS)
def test_of_several_tools_each_has_its_own_schema(chat_format):
    tools = [
        tool(f"t_{i}.x-{i}", {"type": "object", "properties": {"a": {"const": i}}, "required": ["a"]}) for i in range(3)
    ]
    form, held = required(*tools), reader(chat_format)
    names = [name for text in held.answers(form, 6) for name in check_calls(held.read(text, form), form)]
    assert len(set(names)) > 1
    if chat_format != "gpt_oss":  # whose token behind a call ends the answer
        assert len(names) > 6


@pytest.mark.parametrize("chat_format", CALL_FORMATS)
def test_one_call_is_one_call(chat_format):
    form, held = required(tool("f"), most_calls=1), reader(chat_format)
    for text in held.answers(form, 4):
        assert check_calls(held.read(text, form), form) == ["f"]


@pytest.mark.parametrize("chat_format", [name for name in CALL_FORMATS if name not in ("gpt_oss", "mistral")])
def test_thinking_that_the_prompt_opened_may_come_first(chat_format):
    opening = {"gemma4": "<|channel>thought\n", "cohere": "<|START_THINKING|>"}.get(chat_format, "<think>\n")
    form, held = required(tool("f", SCHEMAS["bounded texts"]), most_calls=1), reader(chat_format)
    thoughts = []
    for text in held.answers(form, 4, opening):
        message = held.read(text, form, opening)
        assert check_calls(message, form) == ["f"]
        assert not message["content"].strip()
        thoughts.append(message.get("reasoning_content"))
    assert any(thoughts)
