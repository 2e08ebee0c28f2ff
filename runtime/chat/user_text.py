"""Which special tokens in a rendered prompt were spelt by a user: marks that survive a chat template.

A template may trim, split, concatenate and JSON-encode what users wrote, so the strings are followed through it by
marks: digits drawn at random for one rendering, put into a string only where it spells a special token or could
complete one at its edges, and removed afterwards. All other strings pass untouched. Knows no Jinja and no tokenizer.
"""

import re
import secrets
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

INSIDE = 0  # the mark stands inside what may become a special token; other numbers n: right after token n - 1


class UserText:
    """Marks strings before one rendering and finds the marks after it. Digits pass through every filter and JSON."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        # the longest first, as the tokenizer prefers it
        self._tokens = sorted({token for token in special_tokens if token}, key=lambda token: (-len(token), token))
        self._number = {token: n for n, token in enumerate(self._tokens, start=1)}
        self._spelling = re.compile("|".join(map(re.escape, self._tokens))) if self._tokens else None
        self._starts = {token[:k] for token in self._tokens for k in range(1, len(token))}
        self._ends = {token[k:] for token in self._tokens for k in range(1, len(token))}
        self._longest = max(map(len, self._tokens), default=0)
        self._key = f"{secrets.randbelow(10**24):024d}"

    def mark(self, value: Any) -> Any:
        """A copy of plain data in which every string, keys included, carries its marks."""
        if isinstance(value, str):
            return self._mark_text(value)
        if isinstance(value, Mapping):
            return {self.mark(key): self.mark(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item) for item in value]
        return value

    def mark_around(self, text: str, kept: Mapping[int, str]) -> str:
        """The text with marks, but for stretches of it that are no user's, by where they begin in it; -1 is nowhere."""
        parts, done = [], 0
        for place, stretch in kept.items():
            if place >= 0:
                parts += [self._mark_text(text[done:place]), stretch]
                done = place + len(stretch)
        return "".join([*parts, self._mark_text(text[done:])])

    def _mark_text(self, text: str) -> str:
        if self._spelling is None:
            return text
        # a mark follows a whole spelling, so that a template still finds e.g. </think> in the text of an assistant; if
        # it cuts the text there and trims the rest, the mark stands before the blanks, and they stay
        places = [(found.end(), self._number[found[0]]) for found in self._spelling.finditer(text)]
        # two texts that a template joins may spell a token together; it may trim them first
        left, right = len(text) - len(text.lstrip()), len(text.rstrip())
        for k in range(1, min(self._longest, right - left + 1)):
            if text[right - k : right] in self._starts:
                places.append((right - k + 1, INSIDE))
            if text[left : left + k] in self._ends:
                places.append((left + k - 1, INSIDE))
        parts, done = [], 0
        for place, number in sorted(places):
            parts += [text[done:place], f"{self._key}{number:05d}"]
            done = place
        return "".join([*parts, text[done:]])

    def pieces(self, marked: str) -> list[tuple[str, bool]]:
        """The text without marks, cut as `ChatTemplate.render_pieces` says."""
        split = re.split(f"{self._key}(\\d{{5}})", marked)
        text = "".join(split[::2])
        if len(split) == 1 or self._spelling is None:
            return [(text, True)] if text else []
        places: list[tuple[int, int]] = []  # (position in text, number)
        position = 0
        for part, number in zip(split[::2], split[1::2], strict=False):
            position += len(part)
            places.append((position, int(number)))
        pieces: list[tuple[str, bool]] = []
        allowed_from, stretch, spelt = 0, 0, False  # where True text, and where the stretch at hand, begins
        for found in [*self._spelling.finditer(text), None]:
            if found is not None and self._by_user(found, places):
                spelt = True
                continue
            if spelt:  # cut the stretch out of the text around it
                end = found.start() if found is not None else len(text)
                pieces += [(text[allowed_from:stretch], True), (text[stretch:end], False)]
                allowed_from, spelt = end, False
            if found is not None:
                stretch = found.end()
        pieces.append((text[allowed_from:], True))
        return [piece for piece in pieces if piece[0]]

    def _by_user(self, found: re.Match[str], places: list[tuple[int, int]]) -> bool:
        number = self._number[found[0]]
        for place, kind in places[bisect_left(places, (found.start() + 1, INSIDE)) :]:
            if place > found.end():
                return False
            if kind == number and place == found.end():
                return True
            if kind == INSIDE and place < found.end():
                return True
        return False
