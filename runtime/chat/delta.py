"""The parts of an answer while it streams, and the search for markers in text that is still arriving.

Every chat format is built from these; the table of formats is formats/__init__.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reasoning:
    """Text that the model thought and did not say."""

    text: str


@dataclass(frozen=True)
class Content:
    """Text of the answer."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """A tool call begins; `index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class CallArguments:
    """More of the arguments of a call, a JSON object as the model wrote it: it may be broken or end early."""

    index: int
    text: str


Delta = Reasoning | Content | CallStart | CallArguments


@dataclass(frozen=True)
class Found:
    """Where the first of some markers stands in a text."""

    before: str
    marker: str
    after: str


def find_first(text: str, markers: tuple[str, ...]) -> Found | None:
    """The first marker in a text, of which none begins another; None if it holds none."""
    places = [(place, marker) for marker in markers if (place := text.find(marker)) >= 0]
    if not places:
        return None
    place, marker = min(places)
    return Found(text[:place], marker, text[place + len(marker) :])


def split_safe(text: str, markers: tuple[str, ...]) -> tuple[str, str]:
    """A text without a whole marker, cut before its longest end that may become one."""
    longest = max(map(len, markers), default=1) - 1
    for keep in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-keep:]) for marker in markers):
            return text[:-keep], text[-keep:]
    return text, ""
