"""Tokens to text while they come: nothing is shown that a later token could still change.

A character is never shown in part, nor the beginning of what may become a stop string.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextStream(Protocol):
    """Tokens in, text out; the pieces joined are the text of all tokens."""

    def push(self, token_id: int) -> str:
        """The text that is complete with this token; empty while a character is not."""

    def flush(self) -> str:
        """What is still held back; an unfinished character becomes U+FFFD."""


class ByteStream:
    """For byte-level vocabularies, where a token is some bytes whatever stands beside it."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._token_bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", True)


class WindowStream:
    """For other decoders, whose tokens read differently after others: decode with the last piece as context."""

    _LONGEST = 8  # tokens: twice a character's bytes; text that still ends in U+FFFD is then meant so

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._shown: list[int] = []  # the last piece that was shown
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        self._held.append(token_id)
        text = self._held_text()
        if not text or (text.endswith(_REPLACEMENT) and len(self._held) < self._LONGEST):
            return ""
        self._shown, self._held = self._held, []
        return text

    def flush(self) -> str:
        text = self._held_text()
        self._shown, self._held = [], []
        return text

    def _held_text(self) -> str:
        before = self._decode(self._shown)
        return self._decode(self._shown + self._held)[len(before) :]


class StopStrings:
    """Finds the first stop string in streamed text and holds back what may become one."""

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is safe to show; once `found` is set, it ended right before that stop string."""
        if self.found is not None:
            return ""
        if not self._stop:
            return text
        text = self._held + text
        places = [(place, stop) for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            place, self.found = min(places)
            self._held = ""
            return text[:place]
        keep = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back for a stop string that did not come."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))
