"""Tool calls as each chat format writes them: the other side of runtime/chat/formats, which reads them.

A format's calls begin with one of a few markers; what may stand behind each, to the end of all calls, is written here
as Lark. Where a model must call, they begin with one that its vocabulary has a token for, if there is such a one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moedge.runtime.chat.formats import cohere, deepseek, gemma, glm, hermes, kimi_k2, lfm2, mistral, qwen3_coder
from moedge.runtime.forms.comma_lists import repeated
from moedge.runtime.forms.declared import LOOSE, SPACED, DeclaredTool
from moedge.runtime.forms.delimited_writing import delimited_arguments
from moedge.runtime.forms.lark_rules import LarkRules, Marks, quote
from moedge.runtime.forms.python_writing import python_call
from moedge.runtime.forms.tagged_writing import BREAK, KEY, TagStyle, tagged_arguments

_NEWLINE = '"\\n"?'
_QUOTE, _ID, _NUMBER = '"', ', "id": "', '"tool_call_id": "'


@dataclass(frozen=True)
class CallWriter:
    """What a grammar is written of; `most` calls, None: any number."""

    tools: Sequence[DeclaredTool]
    most: int | None
    rules: LarkRules
    marks: Marks

    def any_of(self, write: Callable[[DeclaredTool], str]) -> str:
        """A call of one of the tools."""
        return self.rules.rule(" | ".join(self.rules.rule(write(tool)) for tool in self.tools))

    def several(self, call: str, separator: str, tail: str = "") -> str:
        """One call or more, and what stands behind all of them."""
        return self.rules.rule(f"{repeated(call, separator, self.most)} {tail}")

    def object(self, name: str = "name", arguments: str = "arguments", before: str = "", behind: str = "") -> str:
        """A call as a JSON object, spaced as templates print it; `before` and `behind` are members beside its own."""

        def write(tool: DeclaredTool) -> str:
            begin = quote(f'"{name}": {json.dumps(tool.name)}, "{arguments}": ')
            return f'"{{" {before} {begin} {tool.arguments(SPACED)} {behind} "}}"'

        return self.any_of(write)


def call_openers(chat_format: str, writer: CallWriter) -> Mapping[str, str]:
    """The markers that begin calls, and what follows each, in Lark; UnfitTool for what the format cannot write."""
    return _WRITERS[chat_format](writer)


def _hermes(w: CallWriter) -> dict[str, str]:
    call = w.rules.rule(f"{_NEWLINE} {w.object()} {_NEWLINE} {w.marks.here(hermes.END_CALL)}")
    return {hermes.CALL: w.several(call, f"{_NEWLINE} {w.marks.here(hermes.CALL)}")}


def _granite(w: CallWriter) -> dict[str, str]:
    array = w.rules.rule(f'{_NEWLINE} "[" {repeated(w.object(), quote(", "), w.most)} "]"')
    return {"<|tool_call|>": array, hermes.CALL: w.rules.rule(f"{_hermes(w)[hermes.CALL]} | {array}")}


def _mistral(w: CallWriter) -> dict[str, str]:
    if mistral.ARGUMENTS in w.marks.ids:
        identifier = f"({w.marks.here(mistral.CALL_ID)} /[A-Za-z0-9]{{9}}/)?" if mistral.CALL_ID in w.marks.ids else ""
        arguments = w.marks.here(mistral.ARGUMENTS)
        call = w.any_of(lambda tool: f"{quote(tool.name)} {identifier} {arguments} {tool.arguments(LOOSE)}")
        return {mistral.CALL: w.several(call, w.marks.here(mistral.CALL))}
    identifier = f"({quote(_ID)} /[A-Za-z0-9]{{9}}/ {quote(_QUOTE)})?"
    calls = repeated(w.object(behind=identifier), quote(", "), w.most)
    return {mistral.CALL: w.rules.rule(f'" "? "[" {calls} "]"')}


def _kimi_k2(w: CallWriter) -> dict[str, str]:
    middle, end = w.marks.here(kimi_k2.ARGUMENTS), w.marks.here(kimi_k2.END_CALL)

    def write(tool: DeclaredTool) -> str:
        return f"{quote(f'functions.{tool.name}:')} /[0-9]{{1,3}}/ {middle} {tool.arguments(LOOSE)} {end}"

    begin = w.marks.here(kimi_k2.CALL)
    call = w.any_of(write)
    calls = w.several(f"{begin} {call}", "")
    sections = zip(kimi_k2.SECTIONS, kimi_k2.END_SECTIONS, strict=True)
    openers = {section: f"{calls} {w.marks.here(end_section)}" for section, end_section in sections}
    return {**openers, kimi_k2.CALL: w.several(call, begin)}


def _deepseek(w: CallWriter, write: Callable[[DeclaredTool], str]) -> dict[str, str]:
    begin, end = w.marks.here(deepseek.CALL), w.marks.here(deepseek.END_CALL)
    call = w.rules.rule(f"{w.any_of(write)} {end}")
    separator = f"{_NEWLINE} {begin}"
    section = f"{begin} {w.several(call, separator)} {w.marks.here(deepseek.END_SECTION)}"
    return {deepseek.SECTION: section, deepseek.CALL: w.several(call, separator)}


def _deepseek_v3(w: CallWriter) -> dict[str, str]:
    begin, fence = f"{quote('function')} {w.marks.here(deepseek.SEPARATOR)}", quote(deepseek.FENCE)

    def write(tool: DeclaredTool) -> str:
        line = quote(f"{tool.name}{deepseek.FENCE}json\n")
        return f"{begin} {line} {tool.arguments(LOOSE)} {fence}"

    return _deepseek(w, write)


def _deepseek_v3_1(w: CallWriter) -> dict[str, str]:
    separator = w.marks.here(deepseek.SEPARATOR)
    return _deepseek(w, lambda tool: f"{quote(tool.name)} {separator} {tool.arguments(LOOSE)}")


def _cohere(w: CallWriter) -> dict[str, str]:
    number = f"{quote(_NUMBER)} /[0-9]{{1,3}}/ {quote(_QUOTE + ', ')}"
    call = w.object("tool_name", "parameters", before=number)
    calls = repeated(call, quote(",\n    "), w.most)
    begin, end = quote("[\n    "), quote("\n]")
    return {cohere.CALL: w.rules.rule(f"{begin} {calls} {end} {w.marks.here(cohere.END_CALL)}")}


def _qwen3_coder(w: CallWriter) -> dict[str, str]:
    close, end = "</parameter>", f"{qwen3_coder.END_FUNCTION}"
    others = (end, hermes.END_CALL, hermes.CALL, qwen3_coder.FUNCTION, "<parameter=")
    style = TagStyle(("<parameter=", KEY, ">\n"), f"\n{close}\n", others, words=True)

    def write(tool: DeclaredTool) -> str:
        name = quote(f"{tool.name}>\n")
        return f"{name} {tagged_arguments(tool, style, w.rules, w.marks)} {quote(end)}"

    call = w.any_of(write)
    function, begin = quote(qwen3_coder.FUNCTION), w.marks.here(hermes.CALL)
    outer = w.rules.rule(f"{_NEWLINE} {function} {call} {_NEWLINE} {w.marks.here(hermes.END_CALL)}")
    return {
        hermes.CALL: w.several(outer, f"{_NEWLINE} {begin}"),
        qwen3_coder.FUNCTION: w.several(call, f"{_NEWLINE} {function}"),
    }


def _glm(w: CallWriter) -> dict[str, str]:
    others = ("<arg_key>", "</arg_key>", "<arg_value>", glm.CALL, glm.END_CALL)
    style = TagStyle((BREAK, "<arg_key>", KEY, "</arg_key>", BREAK, "<arg_value>"), "</arg_value>", others)
    end = w.marks.here(glm.END_CALL)

    def write(tool: DeclaredTool) -> str:
        return f"{quote(tool.name)} {tagged_arguments(tool, style, w.rules, w.marks)} {_NEWLINE} {end}"

    return {glm.CALL: w.several(w.any_of(write), f"{_NEWLINE} {w.marks.here(glm.CALL)}")}


def _gemma4(w: CallWriter) -> dict[str, str]:
    end = w.marks.here(gemma.END_CALL)
    call = w.any_of(lambda tool: f"{quote(f'call:{tool.name}')} {delimited_arguments(tool, w.rules, w.marks)} {end}")
    return {gemma.CALL: w.several(call, w.marks.here(gemma.CALL))}


def _lfm2(w: CallWriter) -> dict[str, str]:
    spelled = [python_call(tool, w.rules) for tool in w.tools]
    python = [call for call in spelled if call is not None]
    rest = [tool for tool, call in zip(w.tools, spelled, strict=True) if call is None]
    lists = []
    if python:
        lists.append(repeated(w.rules.rule(" | ".join(python)), quote(", "), w.most))
    if rest:
        others = CallWriter(rest, w.most, w.rules, w.marks)
        lists.append(repeated(others.object(), quote(", "), w.most))
    calls = w.rules.rule(" | ".join(lists))
    return {lfm2.CALL: w.rules.rule(f'"[" {calls} "]" {w.marks.here(lfm2.END_CALL)}')}


_WRITERS: Mapping[str, Callable[[CallWriter], dict[str, str]]] = {
    "cohere": _cohere,
    "deepseek_v3": _deepseek_v3,
    "deepseek_v3_1": _deepseek_v3_1,
    "ernie": _hermes,
    "gemma4": _gemma4,
    "glm": _glm,
    "granite": _granite,
    "hermes": _hermes,
    "kimi_k2": _kimi_k2,
    "lfm2": _lfm2,
    "mistral": _mistral,
    "qwen3_coder": _qwen3_coder,
}
