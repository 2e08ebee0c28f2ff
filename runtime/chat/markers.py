"""The search for markers in text that is still arriving. What a marker leads to is the grammar's matter."""

import re
from collections.abc import Collection


class Markers:
    """Some markers, of which none begins another, and their prefixes, compiled."""

    def __init__(self, markers: Collection[str]) -> None:
        self._all = re.compile("|".join(map(re.escape, markers)) or r"(?!)")
        self._first = re.compile(
            "[" + "".join({re.escape(marker[0]) for marker in markers}) + "]" if markers else "(?!)"
        )
        self._beginnings = frozenset(marker[:size] for marker in markers for size in range(1, len(marker)))
        self._longest = max(map(len, markers), default=1) - 1

    def find(self, text: str, place: int) -> re.Match[str] | None:
        """The first marker from a place on."""
        return self._all.search(text, place)

    def at(self, text: str, place: int) -> re.Match[str] | None:
        """The marker that stands right at a place."""
        return self._all.match(text, place)

    def begins(self, text: str, place: int) -> bool:
        """Whether all of the text from a place on may become a marker."""
        return len(text) - place <= self._longest and text[place:] in self._beginnings

    def cut(self, text: str, place: int) -> int:
        """Where the longest end of a text that may become a marker begins, not before a place; else the text's length.

        The text holds no whole marker from the place on.
        """
        first = self._first.search(text, max(place, len(text) - self._longest))
        while first is not None:
            if text[first.start() :] in self._beginnings:
                return first.start()
            first = self._first.search(text, first.end())
        return len(text)
