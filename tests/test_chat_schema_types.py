"""What a tool's schema says of an argument's type, however it is put, and what a text then means."""

import json

import pytest

from moedge.runtime.chat.schema_types import property_types
from moedge.runtime.chat.tagged import argument_types, as_json

STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
NUMBER = {"number", "integer"}
DEFINITIONS = {
    "Zip": STRING,
    "Way": {"$ref": "#/$defs/Zip"},
    "a/b~c d": STRING,
    "Tree": {"anyOf": [STRING, {"$ref": "#/$defs/Trees"}]},
    "Trees": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Tree"}}, {"$ref": "#/$defs/Tree"}]},
    "Loop": {"$ref": "#/$defs/Loop"},
}

# one argument's schema, and the types that it allows; none if it leaves all open
SCHEMAS = {
    "type": (STRING, {"string"}),
    "types": ({"type": ["string", "null"]}, {"string", "null"}),
    "a number may be whole": ({"type": "number"}, NUMBER),
    "a type as Python spells it": ({"type": "str"}, {"string"}),
    "a type in capitals": ({"type": "STRING"}, {"string"}),
    "a type that is not known": ({"type": "date"}, None),
    "nonsense": ({"type": 3, "anyOf": 7, "enum": {}, "allOf": "x", "$ref": 1}, None),
    "nothing": ({}, None),
    "anything": (True, None),
    "not even an object": ("string", None),
    "nullable": ({"type": "string", "nullable": True}, {"string", "null"}),
    "nullable, or not": ({"type": "string", "nullable": False}, {"string"}),
    "nullable anything": ({"nullable": True}, None),
    "enum": ({"enum": ["1", "2"]}, {"string"}),
    "enum of all kinds": ({"enum": ["1", 2, None, True]}, {"string", "null", "boolean"} | NUMBER),
    "enum of objects": ({"enum": [{"a": 1}, [1]]}, {"object", "array"}),
    "enum, narrowed": ({"type": "string", "enum": ["1", None]}, {"string"}),
    "empty enum": ({"enum": []}, None),
    "const": ({"const": "42"}, {"string"}),
    "const null": ({"const": None}, {"null"}),
    "const boolean": ({"const": True}, {"boolean"}),
    "anyOf": ({"anyOf": [STRING, NULL]}, {"string", "null"}),
    "oneOf": ({"oneOf": [STRING, INTEGER]}, {"string", "integer"}),
    "anyOf with anything": ({"anyOf": [STRING, {}]}, None),
    "anyOf, narrowed": ({"type": "string", "anyOf": [{"pattern": "a"}, {"maxLength": 3}]}, {"string"}),
    "anyOf of constants": ({"anyOf": [{"const": "a"}, {"const": "1"}]}, {"string"}),
    "empty anyOf": ({"anyOf": []}, None),
    "allOf": ({"allOf": [STRING]}, {"string"}),
    "allOf narrows": ({"allOf": [{"type": ["string", "integer"]}, {"description": "x"}, STRING]}, {"string"}),
    "allOf that allows nothing": ({"allOf": [STRING, INTEGER]}, None),
    "nested": ({"anyOf": [{"oneOf": [{"allOf": [{"enum": ["1"]}]}, NULL]}, {"const": "x"}]}, {"string", "null"}),
    "never": ({"anyOf": [False, STRING]}, {"string"}),
    "reference": ({"$ref": "#/$defs/Zip"}, {"string"}),
    "reference to the old place": ({"$ref": "#/definitions/Zip"}, {"integer"}),
    "reference by way of another": ({"$ref": "#/$defs/Way"}, {"string"}),
    "reference beside others": ({"$ref": "#/$defs/Zip", "description": "x", "type": ["string", "null"]}, {"string"}),
    "reference in anyOf": ({"anyOf": [{"$ref": "#/$defs/Zip"}, NULL]}, {"string", "null"}),
    "reference in allOf": ({"allOf": [{"$ref": "#/$defs/Zip"}], "default": "1"}, {"string"}),
    "reference with escapes": ({"$ref": "#/$defs/a~1b~0c%20d"}, {"string"}),
    "reference into a list": ({"$ref": "#/$defs/Tree/anyOf/0"}, {"string"}),
    "reference to another argument": ({"$ref": "#/properties/other"}, {"boolean"}),
    "reference to the whole": ({"$ref": "#"}, {"object"}),
    "reference to nothing": ({"$ref": "#/$defs/None"}, None),
    "reference out of a list": ({"$ref": "#/$defs/Tree/anyOf/9"}, None),
    "reference to elsewhere": ({"$ref": "other.json#/$defs/Zip"}, None),
    "reference to itself": ({"$ref": "#/$defs/Loop"}, None),
    "recursive": ({"$ref": "#/$defs/Tree"}, {"string", "array"}),
    "recursive from the other end": ({"$ref": "#/$defs/Trees"}, {"string", "array"}),
    "told by other keywords": ({"pattern": "^[0-9]+$", "description": "x"}, {"string"}),
    "told to be an object": ({"properties": {"x": INTEGER}}, {"object"}),
}


def types(schema):
    parameters = {
        "type": "object",
        "properties": {"a": schema, "other": {"type": "boolean"}},
        "$defs": DEFINITIONS,
        "definitions": {"Zip": INTEGER},
    }
    return property_types(parameters).get("a")


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS.values(), ids=SCHEMAS)
def test_types(schema, expected):
    assert types(schema) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/$defs/F", "$defs": {"F": {"properties": {"a": STRING}}}},
        {"allOf": [{"properties": {"a": STRING}}, {"properties": {"b": INTEGER}}]},
        {"anyOf": [{"properties": {"b": INTEGER}}, {"properties": {"a": STRING}}, {"$ref": "#"}]},
        {"properties": {"a": STRING}, "$ref": "#/$defs/F", "$defs": {"F": {"$ref": "#"}}},
    ],
)
def test_properties_are_found_in_the_parts_of_a_tool_s_schema(parameters):
    assert property_types(parameters)["a"] == {"string"}


def test_an_argument_of_two_parts_may_be_what_either_allows():
    parts = [{"properties": {"a": STRING}}, {"properties": {"a": INTEGER}}]
    assert property_types({"oneOf": parts}) == {"a": {"string", "integer"}}


@pytest.mark.parametrize("parameters", [None, 1, "x", [], {}, {"properties": 1}, {"properties": {"a": None}}])
def test_no_schema_says_nothing(parameters):
    assert property_types(parameters) == {}


def test_schemas_that_double_at_every_step_are_read_once_each():
    doubled = {f"D{i}": {"anyOf": [{"$ref": f"#/$defs/D{i + 1}"}] * 2} for i in range(25)}
    parameters = {"properties": {"a": {"$ref": "#/$defs/D0"}}, "$defs": {**doubled, "D25": STRING}}
    assert property_types(parameters) == {"a": {"string"}}


@pytest.mark.parametrize("key", ["anyOf", "allOf"])
def test_schemas_nested_too_deeply_are_left_open(key):
    schema = STRING
    for _ in range(5000):
        schema = {key: [schema]}
    assert types(schema) is None
    chain = {f"D{i}": {"$ref": f"#/$defs/D{i + 1}"} for i in range(5000)}
    assert property_types({"properties": {"a": {"$ref": "#/$defs/D0"}}, "$defs": chain}) == {}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"const": "42"}, "42", "42"),
        ({"anyOf": [STRING, NULL]}, "12", "12"),
        ({"anyOf": [STRING, NULL]}, "null", None),
        ({"anyOf": [STRING, INTEGER]}, "12", 12),  # as vLLM has it; llama.cpp makes it a text
        ({"anyOf": [STRING, INTEGER]}, "12.5", "12.5"),
        ({"anyOf": [STRING, {"type": "array"}]}, "12", "12"),
        ({"anyOf": [STRING, {"type": "array"}]}, '["x"]', ["x"]),
        ({"anyOf": [STRING, {"type": "array"}]}, "['x']", "['x']"),
        ({"anyOf": [STRING, {"type": "boolean"}]}, "true", True),
        ({"anyOf": [STRING, {"type": "boolean"}]}, "1", "1"),
        ({"anyOf": [STRING, {"type": "object"}]}, '"x"', '"x"'),
        ({"type": "number"}, "3", 3),
        ({"type": "integer"}, "3.0", 3.0),
        ({"type": "integer"}, "007", 7),
        ({"type": "integer"}, "seven", "seven"),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "FALSE\n", False),
        ({"type": ["boolean", "null"]}, "None", None),
        ({"type": "object"}, "{'b': 'c'}", {"b": "c"}),
        ({"type": "array"}, '[{"b": \'c\'},\n{"b": "d\ne"}]', [{"b": "c"}, {"b": "d\ne"}]),
        ({"type": "object"}, "{'b': NaN}", "{'b': NaN}"),
        ({"type": "object"}, "[1, 2,]", "[1, 2,]"),
        ({"type": "array"}, "12", 12),
        ({}, "{'b': 'c'}", "{'b': 'c'}"),
        ({}, "12", 12),
    ],
)
def test_a_text_is_a_value_that_its_schema_allows(schema, text, value):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}]
    read = json.loads(as_json({"a": text}, argument_types(tools)["f"], {}))["a"]
    assert (read, type(read)) == (value, type(value))
