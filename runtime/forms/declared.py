"""A tool as grammars need it: its schema read and narrowed, and its arguments as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.schema_types import allowed_types, property_types
from moedge.runtime.forms.answer_form import FormTool, UnfitTool
from moedge.runtime.forms.argument_schema import Schema, prepare, read_parameters, subschema
from moedge.runtime.forms.argument_shapes import ArgumentShape, argument_shapes
from moedge.runtime.forms.guarded_strings import guard
from moedge.runtime.forms.visits import Visits

_Result = TypeVar("_Result")

SPACED = (", ", ": ")  # as templates print JSON
LOOSE = (", ?", ": ?")  # where models were shown both


@dataclass(frozen=True)
class DeclaredTool:
    """One tool; UnfitTool where its schema cannot be held to."""

    tool: FormTool

    @property
    def name(self) -> str:
        """Its name."""
        return self.tool.name

    @cached_property
    def schema(self) -> Schema:
        """That of its arguments, narrowed; see `prepare`."""
        return self._fit(lambda: prepare(read_parameters(self.tool.parameters), self.tool.strict))

    @cached_property
    def shapes(self) -> list[ArgumentShape]:
        """The arguments one by one."""
        return self._fit(lambda: argument_shapes(self.schema, self.visits))

    @cached_property
    def visits(self) -> Visits:
        """Of its schemas."""
        return Visits()

    @cached_property
    def types(self) -> dict[str, frozenset[str]]:
        """What readers of texts know of each argument's types."""
        return property_types(read_parameters(self.tool.parameters))

    def types_of(self, schema: Any) -> frozenset[str]:
        """The types that a part of the schema allows."""
        return allowed_types(self.schema, schema)

    def arguments(self, separators: tuple[str, str]) -> str:
        """All of them as a JSON object, in Lark."""
        return json_of(self.schema, separators, self.tool.strict)

    def value(self, schema: Any, types: frozenset[str] | None = None, without: Sequence[str] = ()) -> str:
        """A value of a part of the schema as JSON, in Lark; of these types alone if they are given.

        Its strings are `without` some tags.
        """
        part = subschema(self.schema, schema)
        if without:
            part = guard(part, without)
        if types is not None:
            part = {"allOf": [{key: part[key] for key in part if key != "$defs"}, {"type": sorted(types)}]} | {
                key: part[key] for key in part if key == "$defs"
            }
        return json_of(part, LOOSE, self.tool.strict)

    def fit(self, write: Callable[[], str]) -> str:
        """What is written; UnfitTool where that finds that it cannot be."""
        return self._fit(write)

    def _fit(self, make: Callable[[], _Result]) -> _Result:
        try:
            return make()
        except UnfitTool:
            raise
        except MoedgeError as error:
            raise UnfitTool(self.name, str(error)) from None


def json_of(schema: Schema, separators: tuple[str, str], strict: bool = True) -> str:
    """JSON of a schema, in Lark; blanks stand beside commas and colons at most, as `separators` allow."""
    items, keys = separators
    # else nothing between two values is ever forced, and blanks may go on and on
    options = {"whitespace_flexible": False, "item_separator": items, "key_separator": keys, "lenient": not strict}
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"
