"""LFM2's answers: calls are a list in Python's syntax, or JSON as some were taught.

<|tool_call_start|>[f(city="Oslo", days=3), g()]<|tool_call_end|>
"""

import ast
import keyword
import re
from typing import Any

from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, WrittenCall, behind_calls, thinking_steps
from moedge.runtime.chat.json_calls import dump, read_calls
from moedge.runtime.chat.markers import Markers
from moedge.runtime.chat.scans import PythonScan

CALL, END_CALL = "<|tool_call_start|>", "<|tool_call_end|>"
_JSON_NAMES = {"true": True, "false": False, "null": None}
_SUFFIX = "_of_moedge_"
# a string that never ends runs to the end of the text: its rest is not searched for strings again and again
_STRING_OR_KEYWORD = re.compile(
    r"""("(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:\\.|[^'\\])*(?:'|\\?\Z))""" + rf"|\b({'|'.join(keyword.kwlist)})(?=\s*=[^=])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\n\\'\"abfnrtv01234567xuUN")


def _body(text: str) -> Body | None:
    try:
        return read_calls(text) or (_python_calls(text), "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # all that Python says of a text it cannot read
        return None


def _python_calls(text: str) -> list[WrittenCall]:
    if "#" in _STRING_OR_KEYWORD.sub("", text):  # a comment, which no call could carry
        raise ValueError("a comment")
    tree = ast.parse(_STRING_OR_KEYWORD.sub(_as_python, text.strip()), mode="eval").body
    nodes = tree.elts if isinstance(tree, ast.List) else [tree]
    if not nodes:
        raise ValueError("no call")
    return [_call(node) for node in nodes]


def _as_python(found: re.Match[str]) -> str:
    """What is no Python and yet clear: a newline in a string, an escape like `\\d`, an argument called `from`."""
    if found[2]:
        return found[2] + _SUFFIX
    escaped = _ESCAPE.sub(lambda escape: escape[0] if escape[1] in _ESCAPES else f"\\{escape[0]}", found[1])
    return escaped.replace("\n", "\\n")


def _call(node: ast.expr) -> WrittenCall:
    prefix = ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):  # a name with dashes reads as a difference
        prefix, node = f"{ast.unparse(node.left).replace(' ', '')}-", node.right
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with named arguments")
    arguments: dict[str, Any] = {}
    for argument in node.keywords:
        key = (argument.arg or "").removesuffix(_SUFFIX)
        if not key or key in arguments:
            raise ValueError("an argument without a name, or twice the same")
        arguments[key] = _value(argument.value)
    name = prefix + ast.unparse(node.func)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("not a name")
    return WrittenCall(name, dump(arguments))


def _value(node: ast.expr) -> Any:
    """The value of a literal; `true`, `false` and `null` of JSON count, inside of lists and dicts too."""
    match node:
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
                raise ValueError("keys that JSON cannot hold")
            return dict(zip(names, map(_value, values), strict=True))
    return ast.literal_eval(node)


_ENDS = Markers((CALL, END_CALL))
_CALLS = {CALL: (BodyForm(lambda: PythonScan(_ENDS), _body),)}

LFM2 = Grammar(
    steps={**thinking_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, {})},
    think=THINK,
    ends=("<|im_end|>",),
)
