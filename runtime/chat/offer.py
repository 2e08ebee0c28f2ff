"""The tools that a request declares, asked for the name of a call and for the types of its arguments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moedge.runtime.chat.grammar import WrittenCall
from moedge.runtime.chat.tagged import Types, argument_types


@dataclass(frozen=True)
class Offer:
    """What the model was shown. Where no tool has a name, any name may be called."""

    names: frozenset[str]
    keys: Mapping[str, frozenset[str]]  # the arguments that a tool's schema names
    types: Types

    def name_of(self, call: WrittenCall, counts: bool) -> str | None:
        """The tool that a call means, None if none was declared by its name.

        With `counts` a number may stand for the name: it is the only tool, or the only one that knows the arguments.
        """
        if not self.names or call.name in self.names:
            return call.name
        if not (counts and call.name.isdecimal()):
            return None
        fitting = self.names
        if len(fitting) > 1:
            fitting = frozenset(name for name in self.names if _keys(call.arguments) <= self.keys[name])
        return next(iter(fitting)) if len(fitting) == 1 else None


def offer_of(tools: Sequence[Mapping[str, Any]]) -> Offer:
    """Tools in OpenAI's form; what is malformed in them says nothing."""
    functions = [tool.get("function") for tool in tools]
    named = {
        function["name"]: frozenset(_properties(function.get("parameters")))
        for function in functions
        if isinstance(function, Mapping) and isinstance(function.get("name"), str)
    }
    return Offer(frozenset(named), named, argument_types(tools))


def _properties(schema: Any) -> Mapping[str, Any]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _keys(arguments: str | Mapping[str, str]) -> frozenset[str]:
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        value = None
    return frozenset(value) if isinstance(value, Mapping) and value else frozenset([""])
