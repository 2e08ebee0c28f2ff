"""Objects in the schema of an answer are closed where that is no other answer than was asked for."""

from typing import Any

import pytest

from moedge.runtime.forms.closed_objects import close_objects

TEXT = {"type": "string"}
NAMED: dict[str, Any] = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
CLOSED = {**NAMED, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (NAMED, CLOSED),
        ({"properties": {"a": TEXT}}, {"properties": {"a": TEXT}, "additionalProperties": False}),
        ({**NAMED, "type": ["object", "null"]}, {**CLOSED, "type": ["object", "null"]}),
        ({"type": "array", "items": NAMED}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [NAMED, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"$ref": "#/$defs/x", "$defs": {"x": NAMED}}, {"$ref": "#/$defs/x", "$defs": {"x": CLOSED}}),
        ({"oneOf": [NAMED], "discriminator": {}}, {"oneOf": [CLOSED], "discriminator": {}}),
        (
            {"type": "object", "additionalProperties": NAMED},
            {"type": "object", "additionalProperties": CLOSED},
        ),
        (
            {"properties": {"b": {"allOf": [NAMED, NAMED]}, "c": NAMED}},
            {"properties": {"b": {"allOf": [NAMED, NAMED]}, "c": CLOSED}, "additionalProperties": False},
        ),
    ],
    ids=str,
)
def test_what_names_its_properties_has_no_others(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    assert close_objects(schema) == closed


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}},
        {**NAMED, "required": ["a", "b"]},
        {**NAMED, "additionalProperties": True},
        {**NAMED, "additionalProperties": TEXT},
        {**NAMED, "patternProperties": {"^x": TEXT}},
        {**NAMED, "minProperties": 2},
        {**NAMED, "const": {"a": "", "b": ""}},
        {**NAMED, "anyOf": [{"required": ["b"]}, {"required": ["c"]}]},
        {"allOf": [NAMED, {"properties": {"b": TEXT}}]},
        {"oneOf": [NAMED, {"properties": {"b": TEXT}}]},
        {"$defs": {"x": NAMED}, "allOf": [{"$ref": "#/$defs/x"}, {"properties": {"b": TEXT}}]},
        {"$defs": {"x": NAMED}, "$ref": "#/$defs/x", "properties": {"b": TEXT}},
        {"not": NAMED},
        {"type": "string", "properties": {"a": TEXT}},
        {"properties": 1, "anyOf": 2, "items": True, "required": 3},
    ],
    ids=str,
)
def test_what_speaks_of_others_stays_open(schema: dict[str, Any]) -> None:
    assert close_objects(schema) == schema
