"""LFM2's answers: calls are a list in Python's syntax, or JSON as some were taught.

<|tool_call_start|>[f(city="Oslo", days=3), g()]<|tool_call_end|>
"""

import ast
import re
from typing import Any

from moedge.runtime.chat.grammar import THINK, At, Body, BodyForm, Grammar, WrittenCall, behind_calls, thinking_steps
from moedge.runtime.chat.json_calls import dump, read_calls
from moedge.runtime.chat.literals import LiteralReader, Quotes, bracket
from moedge.runtime.chat.markers import Markers
from moedge.runtime.chat.scans import PythonScan

CALL, END_CALL = "<|tool_call_start|>", "<|tool_call_end|>"
_NONE = re.compile(r"\s*\[\s*\]\s*")
_NAME = re.compile(r"([^\W\d][\w.-]*)\s*\(")
_KEY = re.compile(r"([^\W\d][\w-]*)\s*=(?!=)")
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_BEGIN = re.compile(r"\[")
_BLOCK, _ARGUMENTS = bracket("]", _NAME.pattern), bracket(")", _KEY.pattern)


def lfm2_calls(text: str) -> Body | None:
    """The calls that a text is; none, but not None, where it says that it calls nothing."""
    if _NONE.fullmatch(text):
        return [], ""
    if read := read_calls(text):
        return read
    for quotes in Quotes:  # the strictest reading first
        try:
            return _python_calls(LiteralReader(text, python=True, quotes=quotes)), ""
        except ValueError:
            if quotes is Quotes.PLAIN and _is_python(text):  # another quote would end a string that Python ends here
                break
    return None


def _is_python(text: str) -> bool:
    """Whether a text is an expression of Python's; its escapes are left out, as Python warns of those that are none."""
    try:
        ast.parse(_ESCAPE.sub("xx", text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # all that Python says of a text it cannot read
        return False
    return True


def _python_calls(reader: LiteralReader) -> list[WrittenCall]:
    def read() -> WrittenCall:
        return _call(reader)

    calls = reader.items(_BLOCK, read) if reader.take(_BEGIN) else [read()]
    if not reader.end() or not calls:
        raise ValueError("not calls alone")
    return calls


def _call(reader: LiteralReader) -> WrittenCall:
    name = reader.take(_NAME)
    if name is None:
        raise ValueError("not a call")
    arguments: dict[str, Any] = {}

    def read() -> None:
        key = reader.take(_KEY)
        if key is None or key[1] in arguments:
            raise ValueError("an argument without a name, or twice the same")
        arguments[key[1]] = reader.value()

    reader.items(_ARGUMENTS, read)
    return WrittenCall(name[1], dump(arguments))


_ENDS = Markers((CALL, END_CALL))
_CALLS = {CALL: (BodyForm(lambda: PythonScan(_ENDS), lfm2_calls),)}

LFM2 = Grammar(
    steps={**thinking_steps(_CALLS), **behind_calls(_CALLS, {END_CALL: At.AFTER}, {})},
    think=THINK,
    ends=("<|im_end|>",),
)
