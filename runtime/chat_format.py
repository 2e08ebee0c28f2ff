"""What a model writes, read as an answer: the parser that every chat format has, and the table of formats.

A format's own grammar is a file of its own (chat_kimi_k2.py). No parser raises on what a model wrote, and nothing of it
is lost: text that fits no grammar is delivered as content or, inside a call, as its arguments.
"""

from typing import Protocol

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat_delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat_kimi_k2 import KimiK2Parser

__all__ = [
    "CallArguments",
    "CallStart",
    "ChatParser",
    "Content",
    "Delta",
    "PlainParser",
    "Reasoning",
    "calls_tools",
    "chat_parser",
]


class ChatParser(Protocol):
    """Text in, deltas out. How the text is cut into pushes changes how deltas are cut, never what they add up to."""

    def push(self, text: str) -> list[Delta]:
        """What is certain after this text; the beginning of a marker is held back."""

    def finish(self) -> list[Delta]:
        """What was held back, when the model has stopped."""


class PlainParser:
    """A model without reasoning or tool calls: all is content."""

    def push(self, text: str) -> list[Delta]:
        """The text itself."""
        return [Content(text)] if text else []

    def finish(self) -> list[Delta]:
        """Nothing is ever held back."""
        return []


_FORMATS: dict[str, type[ChatParser]] = {"plain": PlainParser, "kimi_k2": KimiK2Parser}


def chat_parser(chat_format: str) -> ChatParser:
    """A fresh parser for one answer in the format that the manifest names; MoedgeError for one not known here."""
    if chat_format not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise MoedgeError(f"the bundle's chat format is {chat_format!r}, this moedge reads {known}: update moedge.")
    return _FORMATS[chat_format]()


def calls_tools(chat_format: str) -> bool:
    """Whether answers in this format may hold tool calls."""
    return chat_format != "plain"
