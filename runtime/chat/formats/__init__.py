"""What a model writes, read as an answer: the parser that every chat format has, and the table of formats.

A format's own grammar is a file of its own here (kimi_k2.py …), the machine that reads it ../parser.py. No parser
raises on what a model wrote, and nothing of it is lost: text that fits no grammar is delivered as content or, inside a
call, as its arguments. docs/chat_formats.md shows them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.delta import Delta
from moedge.runtime.chat.formats.cohere import COHERE
from moedge.runtime.chat.formats.deepseek import DEEPSEEK_V3, DEEPSEEK_V3_1
from moedge.runtime.chat.formats.ernie import ERNIE
from moedge.runtime.chat.formats.gemma import GEMMA4
from moedge.runtime.chat.formats.glm import GLM
from moedge.runtime.chat.formats.gpt_oss import ANALYSIS, GPT_OSS
from moedge.runtime.chat.formats.granite import GRANITE
from moedge.runtime.chat.formats.hermes import HERMES
from moedge.runtime.chat.formats.kimi_k2 import KIMI_K2
from moedge.runtime.chat.formats.lfm2 import LFM2
from moedge.runtime.chat.formats.mistral import MISTRAL
from moedge.runtime.chat.formats.qwen3_coder import QWEN3_CODER
from moedge.runtime.chat.grammar import THINK, At, Grammar, thinking_steps
from moedge.runtime.chat.parser import GrammarParser


class ChatParser(Protocol):
    """Text in, deltas out. How the text is cut into pushes changes how deltas are cut, never what they add up to."""

    def push(self, text: str) -> list[Delta]:
        """What is certain after this text; the beginning of a marker is held back."""

    def finish(self) -> list[Delta]:
        """What was held back, when the model has stopped."""


# In the order of `ChatFormat` (manifest.py); models of the format "plain" neither think nor call, those of "think" only
# think.
GRAMMARS: dict[str, Grammar] = {
    "cohere": COHERE,
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v3_1": DEEPSEEK_V3_1,
    "ernie": ERNIE,
    "gemma4": GEMMA4,
    "glm": GLM,
    "gpt_oss": GPT_OSS,
    "granite": GRANITE,
    "hermes": HERMES,
    "kimi_k2": KIMI_K2,
    "lfm2": LFM2,
    "mistral": MISTRAL,
    "plain": Grammar(steps={At.CONTENT: {}}),
    "qwen3_coder": QWEN3_CODER,
    "think": Grammar(steps=thinking_steps({}), think=THINK),
}


def chat_parser(
    chat_format: str,
    prompt_end: str = "",
    tools: Sequence[Mapping[str, Any]] | None = None,
    calls: bool = True,
    apart: bool = False,
) -> ChatParser:
    """A fresh parser for one answer in the format that the manifest names; MoedgeError for one not known here.

    `prompt_end` is the last text of the rendered prompt: where a template has opened the thinking, the answer begins
    inside of it. `tools` are those that the model was shown: a call of any other name is text, and their schemas tell
    which arguments are texts, where the format does not. Where none is known any name is read. Without `calls`, for an
    answer that must hold none, all that looks like one is text. An answer whose calls and content stand `apart` has no
    calls once it has content.
    """
    grammar = _grammar(chat_format)
    apart = apart and grammar.unread is None  # remarks stand beside calls where messages have headers
    return GrammarParser(grammar, prompt_end, tools or (), calls, apart)


@dataclass(frozen=True)
class Thoughts:
    """The tags around an answer's thinking; `newlines` behind it are layout."""

    opening: str
    closing: str
    newlines: bool


def opens_thought(chat_format: str, prompt_end: str) -> bool:
    """Whether a prompt that ends so has begun the thinking of its answer."""
    grammar = _grammar(chat_format)
    if grammar.think:
        return grammar.begin(prompt_end) is not At.START
    return At.START in grammar.steps and prompt_end.endswith(ANALYSIS)


def thoughts_of(chat_format: str) -> Thoughts | None:
    """What may stand before the content of an answer; None in formats without tags around thinking."""
    grammar = _grammar(chat_format)
    if not grammar.think:
        return None
    closing = min(grammar.thought_ends, key=len)
    return Thoughts(grammar.think, closing, grammar.steps[At.THINKING][closing] is At.AFTER)


def response_tags(chat_format: str) -> Sequence[tuple[str, str]]:
    """The pairs of tags that may stand around the content of an answer."""
    steps = _grammar(chat_format).steps
    begins = [mark for mark, lead in steps[At.START].items() if lead is At.REPLY] if At.START in steps else []
    ends = [mark for mark, lead in steps.get(At.REPLY, {}).items() if lead is At.AFTER and not mark.startswith("\n")]
    return list(zip(begins, ends, strict=True))


def calls_tools(chat_format: str) -> bool:
    """Whether answers in this format may hold tool calls."""
    return _grammar(chat_format).calls_tools


def _grammar(chat_format: str) -> Grammar:
    if chat_format not in GRAMMARS:
        known = ", ".join(GRAMMARS)
        raise MoedgeError(f"the bundle's chat format is {chat_format!r}, this moedge reads {known}: update moedge.")
    return GRAMMARS[chat_format]
