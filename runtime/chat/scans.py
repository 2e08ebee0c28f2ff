"""How far a header or the body of a call reaches, told while its text arrives, each character looked at about once.

A scan is fed the text behind a marker and answers with a length, with NO, or with None as long as it cannot know. What
it found is read as a whole afterwards, by functions of each format.
"""

import re
from collections.abc import Callable
from typing import Protocol

from moedge.runtime.chat.markers import Markers
from moedge.runtime.chat.nest import PYTHON, Brackets, Nest
from moedge.runtime.chat.opening import Pattern

NO = -1  # it is none
LONGEST_HEADER = 1024  # characters, far beyond what names and ids need


class Scan(Protocol):
    """A question to text that is arriving, asked once."""

    @property
    def hopeless(self) -> int:
        """Characters from its beginning on in which no call can begin either, if this is none."""

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """Characters it covers from its beginning on, NO, or None: more is needed. The text from `place` on is new.

        `last`: the answer is over, so None is no answer any more.
        """


class HeaderScan:
    """A pattern of limited length; `found` is its match."""

    def __init__(self, pattern: Pattern) -> None:
        self.found: re.Match[str] | None = None
        self._pattern = pattern
        self._text = ""
        self._due = 0  # the length of the text at which the pattern is asked again

    @property
    def hopeless(self) -> int:
        """A header that is understood and refused is text, with all markers in it."""
        return 0 if self.found is None else self.found.end()

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of the longest match."""
        self._text += text[place : place + LONGEST_HEADER - len(self._text)]
        if not last:
            if len(self._text) < self._due:
                return None
            if self._pattern.may_become(self._text):
                # it reads all of the text each time: the longer that is, the more must have come
                self._due = min(len(self._text) + len(self._text) // 32, LONGEST_HEADER)
                return None if len(self._text) < LONGEST_HEADER else NO
        self.found = self._pattern.match(self._text)
        return NO if self.found is None else self.found.end()


class NestScan:
    """One value between brackets, up to the bracket that closes it."""

    hopeless = 0

    def __init__(self, brackets: Brackets) -> None:
        self._nest = Nest(brackets)
        self._seen = 0

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of the value, blanks before it too."""
        end = self._nest.feed(text, place, len(text))
        self._seen += end - place
        if self._nest.done:
            return self._seen
        return NO if last or self._nest.broken else None


class HeadedScan:
    """A header, then one value, which `value` scans."""

    hopeless = 0

    def __init__(self, pattern: Pattern, value: Callable[[], Scan]) -> None:
        self._header = HeaderScan(pattern)
        self._begin = value
        self._value: Scan | None = None
        self._length = 0  # of the header
        self._seen = 0

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of both."""
        if self._value is None:
            length = self._header.feed(text, place, last)
            if length is None or length == NO:
                self._seen += len(text) - place
                return length
            self._value, self._length = self._begin(), length
            place += length - self._seen
        length = self._value.feed(text, place, last)
        return length if length is None or length == NO else self._length + length


class PythonScan:
    """Calls in Python's syntax. Where a string holds quotes that are not escaped, they reach to the next marker."""

    hopeless = 0

    def __init__(self, markers: Markers) -> None:
        self._nest = Nest(PYTHON)
        self._seen = 0
        self._pieces: list[str] = []
        self._search: _Search | None = None
        self._markers = markers

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of the calls, blanks before them too."""
        if self._search is None:
            end = self._nest.feed(text, place, len(text))
            self._seen += end - place
            if self._nest.done:
                return self._seen
            if self._nest.broken and not self._nest.behind_string:  # behind one, a quote may not have been escaped
                return NO
            self._pieces.append(text[place:])
            if not (self._nest.broken or last):
                return None
            self._search = _Search(self._markers)
            text, place = "".join(self._pieces), 0
        self._search.add(text, place)
        found = self._search.next(last)
        if found is not None:
            return self._search.offset(found.start())
        return self._search.offset(len(self._search.text)) if last else None


class TagScan:
    """A head, then values between tags, up to a tag that ends them all.

    `head` and `behind` (what may follow a value) match a group `value` where a value begins, and end the call
    otherwise. A value ends at `end`; if none comes, the call ends with the first of `closers`, which are text of the
    value otherwise: that is known at the next of `openers`, or at the answer's end.
    """

    def __init__(
        self, head: Pattern, behind: Pattern, end: str, closers: tuple[str, ...], openers: tuple[str, ...]
    ) -> None:
        self._behind = behind
        self._end, self._closers = end, closers
        self._search = _Search(Markers((end, *closers, *openers)))
        self._header: HeaderScan | None = HeaderScan(head)
        self._header_begin = 0
        self._closed: int | None = None  # where a value was closed that lacks its own end
        self.hopeless = 0  # a call that began within the values would have ended, or failed, with this one

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """The length of the call; without the tag that ends it, if a pattern does not hold that and all values end."""
        search = self._search
        search.add(text, place)
        while True:
            if self._header is not None:
                length = self._header.feed(search.text, search.place, last)
                if length is None:
                    search.place = len(search.text)
                    return None
                if self._header.found is None:
                    return self._answer(self._header_begin)
                self.hopeless = end = self._header_begin + length
                if self._header.found["value"] is None:
                    return end
                search.place = end - search.offset(0)
                self._header = self._closed = None
            found = search.next(last)
            if found is None:
                return self._answer(search.offset(search.place)) if last else None
            if found[0] == self._end:
                self._header, self._header_begin = HeaderScan(self._behind), search.offset(found.end())
            elif found[0] not in self._closers:
                if self._closed is not None:
                    return self._answer(self._closed)
            elif self._closed is None:
                self._closed = search.offset(found.end())

    def _answer(self, read: int) -> int:
        """What the value that did not end well leaves, of the text that was read."""
        self.hopeless = read if self._closed is None else self._closed
        return NO if self._closed is None else self._closed


class _Search:
    """Markers in a text that arrives in pieces; `text` is what is not searched yet, from `place` on."""

    def __init__(self, markers: Markers) -> None:
        self.text = ""
        self.place = 0
        self._markers = markers
        self._before = 0  # characters that were dropped

    def offset(self, place: int) -> int:
        """A place in `text`, counted from the very first piece."""
        return self._before + place

    def add(self, text: str, place: int) -> None:
        """One more piece, from a place in a text on."""
        rest = self.text[self.place :]
        if rest:
            text, place = rest + text[place:], 0
        self._before += self.place - place
        self.text, self.place = text, place

    def next(self, last: bool) -> re.Match[str] | None:
        """The next marker, stepped over."""
        found = self._markers.find(self.text, self.place)
        if found is not None:
            self.place = found.end()
        else:
            self.place = len(self.text) if last else self._markers.cut(self.text, self.place)
        return found
