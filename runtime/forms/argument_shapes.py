"""Which arguments a tool's schema asks for, one by one, for formats that write them so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.schema_types import resolve
from moedge.runtime.forms.argument_schema import Schema
from moedge.runtime.forms.visits import Visits

MOST_SHAPES = 16
_HOPS = 16  # references to references


@dataclass(frozen=True)
class ArgumentShape:
    """Arguments that go together: their schemas by name, in order, and which of them must be there.

    `other`: the schema of one more, whose name is free, where the shape says so.
    """

    schemas: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    other: Any = None


def argument_shapes(root: Schema, visits: Visits) -> list[ArgumentShape]:
    """The shapes of arguments, any of which is of the schema; MoedgeError for what cannot be told apart so."""
    return [_checked(shape, root) for shape in _shapes(root, root, visits, _HOPS)]


def _shapes(root: Schema, schema: Any, visits: Visits, hops: int) -> list[ArgumentShape]:
    visits.count()
    if not isinstance(schema, Mapping):
        if schema is False:
            raise MoedgeError("nothing is of one of its schemas")
        return [ArgumentShape()]
    if not hops:
        raise MoedgeError("it refers to itself without an end")
    found = [_own(schema)]
    if "oneOf" in schema:
        raise MoedgeError("this model's chat format cannot tell which one of several schemas is meant: say anyOf")
    parts = [[resolve(root, schema["$ref"])]] if "$ref" in schema else []
    parts += [[each] for each in schema.get("allOf", ())]
    parts += [schema["anyOf"]] if "anyOf" in schema else []
    for options in parts:
        shapes = [shape for option in options for shape in _shapes(root, option, visits, hops - 1)]
        found = [_joined(one, other) for one in found for other in shapes]
        if len(found) > MOST_SHAPES:
            raise MoedgeError(f"it has more than {MOST_SHAPES} combinations of arguments")
    return found


def _own(schema: Mapping[str, Any]) -> ArgumentShape:
    if schema.get("patternProperties"):
        raise MoedgeError("this model's chat format cannot write properties by pattern")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    names = dict(properties) | {name: True for name in required if name not in properties}
    other = schema.get("additionalProperties")
    return ArgumentShape(names, frozenset(required), None if names or other is False else other)


def _joined(one: ArgumentShape, other: ArgumentShape) -> ArgumentShape:
    schemas = dict(one.schemas)
    for name, schema in other.schemas.items():
        schemas[name] = {"allOf": [schemas[name], schema]} if schemas.get(name, True) is not True else schema
    free = one.other if other.other is None else other.other
    return ArgumentShape(schemas, one.required | other.required, None if schemas else free)


def _checked(shape: ArgumentShape, root: Schema) -> ArgumentShape:
    least, most = root.get("minProperties", 0), root.get("maxProperties")
    if least > len(shape.required) or (most is not None and most < len(shape.schemas)):
        raise MoedgeError("this model's chat format cannot count properties: say which are required")
    return shape
