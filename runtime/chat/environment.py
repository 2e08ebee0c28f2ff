"""The Jinja that chat templates are written for: a sandbox with the filters of Hugging Face, everything metered.

It owns what a template may call, and puts the meter of meter.py into its loops, operators, filters and methods. What is
rendered is template.py's matter.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from moedge.runtime.chat.meter import MAX_CHARACTERS, RenderMeter, length_of

STEP, MADE, THROUGH = "_moedge_step", "_moedge_made", "_moedge_through"
FOREIGN_METHODS = frozenset({"encode", "expandtabs", "format_map", "maketrans", "translate"})
MAX_BLANKS = 16  # characters that JSON is indented by a level, or of one separator
MAX_JSON = 4 * MAX_CHARACTERS  # of one value that is indented
MAX_TIME = 256  # characters of a form of strftime's
MAX_SOURCE = 1 << 18  # characters of a template; the longest on the Hub have a tenth
# Of Jinja's own: those that write pages, or draw lots, are nothing for prompts.
FILTERS = """
    abs attr capitalize count d default dictsort e escape first float format indent int items join last length list
    lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title tojson trim
    truncate unique upper urlencode
"""
_COMPARING = "in eq equalto == ne != lt < lessthan le <= gt > greaterthan ge >= lower upper"
_AT_ONCE = frozenset({"attr", "count", "d", "default", "first", "items", "last", "length", "safe"})
_LAZY = frozenset({"map", "select", "reject", "selectattr", "rejectattr"})  # their items are counted as they come
_SLOW = {"title": 8, "urlencode": 8, "sort": 4, "unique": 4, "dictsort": 4}  # times a copy


class RefusedError(TemplateError):
    """What `raise_exception` of a template raises."""


class _GenerationTag(Extension):
    """`{% generation %}` marks text for training; here its body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it a plain set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """What templates on the Hub are written for; a rendering's variable `STEP` is its RenderMeter."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        extensions = ["jinja2.ext.loopcontrols", _GenerationTag]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_finalize)
        self.filters["tojson"] = _tojson
        self.filters = {name: _metered(name, self.filters[name]) for name in FILTERS.split()}
        self.filters |= {MADE: _made, THROUGH: _through}
        self.tests |= {name: _looking(self.tests[name]) for name in _COMPARING.split()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise TemplateSyntaxError(f"it has more than {MAX_SOURCE} characters", 1)
        if STEP in unicodedata.normalize("NFKC", source):  # Python takes letters that only look like these for them
            raise TemplateSyntaxError(f"{STEP} is no name for a template", 1)
        tree: nodes.Template = _Metering(self).visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator, unless that would make something huge."""
        meter = _meter(context)
        meter.refuse_huge_operation(operator, left, right)
        return meter.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, called: Any, /, *arguments: Any, **options: Any) -> Any:
        """Call a function, macro or method, unless that would make something huge."""
        if isinstance(called, RenderMeter):
            return called(*arguments)
        meter = _meter(context)
        method = getattr(called, "__wrapped__", called)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str):
            if name in FOREIGN_METHODS:
                raise SecurityError(f"texts have no method {name} here")
            arguments = _listed(arguments)
            meter.refuse_huge(name, (*arguments, owner) if name == "join" else (owner, *arguments), options)
            meter.weigh(arguments)
            meter.through(owner)
        return meter.made(super().call(context, called, *arguments, **options))


def _meter(context: Context) -> RenderMeter:
    meter = context.resolve_or_missing(STEP)
    assert isinstance(meter, RenderMeter)
    return meter


class _Metering(NodeTransformer):
    """Puts the meter where Jinja asks nobody: loops, lists that are written out, what is compared, cut and joined."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - Jinja names them so
        return self._made(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._made(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._made(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        parts = nodes.List(node.nodes).set_lineno(node.lineno).set_environment(self._environment)
        return self._filter(self._filter(self.generic_visit(parts), MADE, node.lineno), "join", node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = self._through(node.expr)
        for operand in node.ops:
            operand.expr = self._through(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = self._through(node.node)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        return self._counted(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._counted(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._counted(node)

    def _counted(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        call = nodes.Call(nodes.Name(STEP, "load"), [nodes.Const(text)], [], None, None)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno).set_environment(self._environment))
        return node

    def _made(self, node: nodes.Expr) -> nodes.Node:
        constant = node.find(nodes.Name) is None
        self.generic_visit(node)
        return node if constant else self._filter(node, MADE, node.lineno)

    def _through(self, node: nodes.Expr) -> nodes.Expr:
        return node if isinstance(node, nodes.Const) else self._filter(node, THROUGH, node.lineno)

    def _filter(self, node: nodes.Node, name: str, line: int) -> nodes.Filter:
        assert isinstance(node, nodes.Expr)
        made = nodes.Filter(node, name, [], [], None, None)
        made.set_lineno(line).set_environment(self._environment)
        return made


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    return _meter(context).shown(value)


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that counts what it looks through and what it makes."""
    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    @pass_context
    def metered(context: Context, *arguments: Any, **options: Any) -> Any:
        meter = _meter(context)
        meter.refuse_huge(name, arguments, options)
        if name not in _AT_ONCE:
            arguments = arguments if name in _LAZY else _listed(arguments)
            meter.weigh(arguments[0])
            meter.spend(_SLOW.get(name, 1) * length_of(arguments[0]))
        known = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        made = function(*([known[wants]] if wants else []), *arguments, **options)
        return made if name in _AT_ONCE else meter.made(made)

    return metered


def _listed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([*argument] if isinstance(argument, Iterator) else argument for argument in arguments)


def _looking(test: Any) -> Callable[..., Any]:
    """A test of Jinja's that counts what it looks through."""

    @pass_context
    def looking(context: Context, *arguments: Any) -> Any:
        for argument in arguments:
            _meter(context).through(argument)
        return test(*arguments)

    return looking


@pass_context
def _made(context: Context, value: Any) -> Any:
    return _meter(context).made(value)


@pass_context
def _through(context: Context, value: Any) -> Any:
    return _meter(context).through(value)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes <, > and & for HTML, which no model was trained on
    blanks = [indent if isinstance(indent, str) else " " * min(indent or 0, MAX_BLANKS + 1), *(separators or ())]
    if any(len(blank) > MAX_BLANKS for blank in blanks):
        raise SecurityError(f"tojson with more than {MAX_BLANKS} characters between two values")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if indent is None:
        return encoder.encode(value)
    parts, characters = [], 0
    for part in encoder.iterencode(value):  # what indents is more than the value, by how deep it is
        parts.append(part)
        characters += len(part)
        if characters > MAX_JSON:
            raise SecurityError(f"tojson makes more than {MAX_JSON} characters")
    return "".join(parts)


def _raise_exception(message: str) -> None:
    raise RefusedError(message)


def _strftime_now(format: str) -> str:
    if len(format) > MAX_TIME:
        raise SecurityError(f"a form of the time of more than {MAX_TIME} characters")
    return datetime.now().strftime(format)
