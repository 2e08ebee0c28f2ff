"""The Jinja that chat templates are written for: a sandbox with the filters of Hugging Face, every loop counted.

It owns the limits of one rendering and what a template may call. What is rendered is template.py's matter.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 1 << 20  # of one rendered prompt
MAX_STEPS = 200_000  # passes through loops and macros of one rendering, some 100 ms
STEP = "_moedge_step"


class RefusedError(TemplateError):
    """What `raise_exception` of a template raises."""


class _GenerationTag(Extension):
    """`{% generation %}` marks text for training; here its body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it a plain set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """What templates on the Hub are written for, with every loop and macro counted."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        extensions = ["jinja2.ext.loopcontrols", _GenerationTag]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        counted: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
        for node in counted:
            count = nodes.ExprStmt(nodes.Call(nodes.Name(STEP, "load"), [], [], None, None))
            node.body.insert(0, count.set_lineno(node.lineno).set_environment(self))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply and raise to a power, unless that would make something huge."""
        product = operator == "*" and _size(left) * _size(right) > MAX_CHARACTERS
        power = operator == "**" and (_size(left) > MAX_CHARACTERS or _size(right) > 64)
        if product or power:
            raise SecurityError(f"`{operator}` with operands this large")
        return super().call_binop(context, operator, left, right)


def _size(value: Any) -> float:
    return float(len(value)) if isinstance(value, str | list | tuple) else abs(float(value))


def step_counter() -> Callable[[], str]:
    """What a template calls in every pass of a loop or macro; SecurityError after `MAX_STEPS` of them."""
    steps = 0

    def count() -> str:
        nonlocal steps
        steps += 1
        if steps > MAX_STEPS:
            raise SecurityError(f"it loops more than {MAX_STEPS} times")
        return ""

    return count


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes <, > and & for HTML, which no model was trained on
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise RefusedError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
