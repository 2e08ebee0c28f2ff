"""The parts of an answer while it streams. What reads them out of text is parser.py."""

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
