"""Patterns that tell of a text which is still arriving whether it may yet become what they describe.

A pattern is a pair of regular expressions: one for the whole, one for every beginning of it. Built from the parts
below, the second follows from the first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_NAME = re.compile(r"\(\?P<\w+>")  # a group's, which a pattern can hold once


@dataclass(frozen=True)
class Pattern:
    """`whole` matches what is described, `start` whatever of it may be there already: nothing, or all but its end."""

    whole: str
    start: str

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(self.whole, re.DOTALL)

    @cached_property
    def _start(self) -> re.Pattern[str]:
        return re.compile(self.start, re.DOTALL)

    def match(self, text: str) -> re.Match[str] | None:
        """What a text begins with."""
        return self._whole.match(text)

    def may_become(self, text: str) -> bool:
        """Whether more text may complete this one, or lengthen what it is."""
        return self._start.fullmatch(text) is not None


SPACES = Pattern(r"[^\S\n]*+", r"[^\S\n]*+")  # blanks within a line
BLANKS = Pattern(r"\s*+", r"\s*+")
NAME_LETTERS = r"""[^\s<>|{}\[\]()"',;`]"""  # of tools, and more than those may have
END_OF_TEXT = Pattern(r"\Z", "")  # counts once the answer is over


def lit(text: str) -> Pattern:
    """This very text."""
    start = ""
    for letter in reversed(text[:-1]):
        start = f"(?:{re.escape(letter)}{start})?"
    return Pattern(re.escape(text), start)


def run(letters: str, name: str = "") -> Pattern:
    """One or more of a class of letters, such as `[^<]`; a group if it is named."""
    # possessive: what follows begins with none of these letters, so that giving some back helps nothing
    return Pattern(f"(?P<{name}>{letters}++)" if name else f"{letters}++", f"{letters}*+")


def group(name: str, part: Pattern) -> Pattern:
    """The same, as a named group of the match."""
    return Pattern(f"(?P<{name}>{part.whole})", part.start)


def ahead(part: Pattern) -> Pattern:
    """Something that must follow and is not part of the match."""
    return Pattern(f"(?={part.whole})", part.start)


def seq(*parts: Pattern) -> Pattern:
    """One after the other."""
    start = "(?!)"
    for part in reversed(parts):
        start = f"(?:{_NAME.sub('(?:', part.whole)}{start}|{part.start})"  # read once, however far it goes
    return Pattern("".join(part.whole for part in parts), start)


def alt(*parts: Pattern) -> Pattern:
    """One of them, the first that fits."""
    return Pattern(_either(p.whole for p in parts), _either(p.start for p in parts))


def maybe(part: Pattern) -> Pattern:
    """It or nothing."""
    return Pattern(f"(?:{part.whole})?", part.start)


def many(part: Pattern) -> Pattern:
    """Any number of them, or none."""
    return Pattern(f"(?:{part.whole})*+", f"(?:{_NAME.sub('(?:', part.whole)})*+(?:{part.start})")


def _either(expressions: Iterable[str]) -> str:
    return "(?:" + "|".join(expressions) + ")"
