"""Owns how client libraries write a tool's declaration down: the order of keys, titles, and what stands beside them.

OpenAI's examples put `type` first and have no titles; what is made of Python functions and pydantic models has
`title`, `additionalProperties` and other orders.
"""

import random
from typing import Any

Json = dict[str, Any]

ORDERS = (
    ("properties", "required", "type"),
    ("properties", "required", "title", "type", "additionalProperties"),
    ("additionalProperties", "properties", "required", "type"),
    ("properties", "title", "type", "required"),
    ("description", "properties", "required", "title", "type"),
    ("type", "properties", "required", "additionalProperties"),
    ("type", "title", "properties", "required"),
    ("$schema", "type", "properties", "required", "additionalProperties"),
)


def spell_declaration(rng: random.Random, function: Json) -> Json:
    """The same function as a library of clients would declare it; every second one as OpenAI's examples do."""
    if rng.random() < 0.5:
        return function
    order = rng.choice(ORDERS)
    schema = function["parameters"]
    titled = "title" in order or rng.random() < 0.15
    properties = {name: _spell(rng, name, one, titled) for name, one in schema["properties"].items()}
    more: Json = {
        "title": rng.choice((f"{function['name']}_args", function["name"], _title(function["name"]).replace(" ", ""))),
        "additionalProperties": False,
        **({"description": function["description"]} if "description" in function else {}),
        "$schema": "http://json-schema.org/draft-07/schema#",
    }
    known = {**more, **schema, "properties": properties}
    keys = [key for key in order if key in known]
    return {**function, "parameters": {key: known[key] for key in keys}}


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _spell(rng: random.Random, name: str, schema: Json, titled: bool) -> Json:
    spelt = {"title": _title(name), **schema} if titled else dict(schema)
    if titled and rng.random() < 0.7:  # keys in alphabetical order, as pydantic writes them
        spelt = dict(sorted(spelt.items()))
    return spelt
