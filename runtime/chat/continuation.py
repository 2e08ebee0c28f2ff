"""A prompt whose last message, the assistant's, is not over: the answer goes on where it ends.

Templates know whole messages alone. So the message is rendered with a mark behind its text, and what follows the mark,
which ends the turn, is cut off. Nothing here tokenizes.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.delta import Content, Delta
from moedge.runtime.chat.formats import ChatParser
from moedge.runtime.chat.template import ChatTemplate

Pieces = list[tuple[str, bool]]  # as of `ChatTemplate.render_pieces`
PROMPT_END = 256  # characters: more than any tag that opens an answer


class CannotContinue(MoedgeError):  # noqa: N818 - it names what the template does
    """A template that shows an answer's text otherwise than it was written, or not at all."""


@dataclass(frozen=True)
class BegunAnswer:
    """What of an answer a prompt holds: `markup` from the answer's begin on, of which `content` is the end.

    `prompt_end` is the last text before the markup.
    """

    prompt_end: str
    markup: str
    content: str


class ContinuedParser:
    """A `ChatParser` that has read the begin of the answer, and tells only what comes behind it."""

    def __init__(self, parser: ChatParser, begun: BegunAnswer) -> None:
        self._parser = parser
        told = sum(len(delta.text) for delta in parser.push(begun.markup) if isinstance(delta, Content))
        self._held = max(0, len(begun.content) - told)  # may begin a marker; the prompt has it, unless it becomes one

    def push(self, text: str) -> list[Delta]:
        """What is certain after this text."""
        return self._behind(self._parser.push(text))

    def finish(self) -> list[Delta]:
        """What was held back, when the model has stopped."""
        return self._behind(self._parser.finish())

    def _behind(self, deltas: Sequence[Delta]) -> list[Delta]:
        told: list[Delta] = []
        for delta in deltas:
            if not isinstance(delta, Content):
                self._held = 0
            elif self._held:
                rest = delta.text[self._held :]
                self._held -= min(self._held, len(delta.text))
                delta = replace(delta, text=rest)
            if not isinstance(delta, Content) or delta.text:
                told.append(delta)
        return told


def continue_last(
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> tuple[Pieces, BegunAnswer]:
    """The pieces of a prompt that ends with the text of the last message, which must not end in blanks.

    CannotContinue, or what rendering raises.
    """
    *before, last = messages
    mark = f"{secrets.randbelow(10**24):024d}"  # digits pass through every filter
    content = last["content"].lstrip()
    pieces = template.render_pieces([*before, {**last, "content": last["content"] + mark}], tools, False, variables)
    text = "".join(piece for piece, _ in pieces)
    place = text.find(mark)
    if text.count(mark) != 1 or not text.endswith(content, 0, place):
        raise CannotContinue(
            "the chat template of this model changes the text of answers, so that none can be continued: "
            "let the conversation end with a message of the user's."
        )
    opening = _opening(template, before, tools, variables)
    begins = text.rfind(opening, 0, place - len(content)) if opening else -1
    begins = begins + len(opening) if begins >= 0 else place
    return _cut(pieces, place), BegunAnswer(
        text[max(0, begins - PROMPT_END) : begins], text[begins:place], content if begins < place else ""
    )


def _opening(
    template: ChatTemplate,
    before: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, Any] | None,
) -> str:
    """What the template opens an answer with; "" where that cannot be told."""
    with suppress(MoedgeError):
        closed = template.render(before, tools, False, variables)
        asked = template.render(before, tools, True, variables)
        return asked.removeprefix(closed) if asked.startswith(closed) else ""
    return ""


def _cut(pieces: Pieces, place: int) -> Pieces:
    """The pieces of the text before a place."""
    kept: Pieces = []
    for text, trusted in pieces:
        if place > 0:
            kept.append((text[:place], trusted))
        place -= len(text)
    return kept
