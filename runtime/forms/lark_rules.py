"""Grammars in llguidance's Lark, written rule by rule, and the special tokens that they name."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ANY_TEXT = "/(?s:.*)/"


class LarkRules:
    """The rules of one grammar. Those that say the same are one."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}  # of options and body

    def rule(self, body: str, lazy: bool = False) -> str:
        """The name of a rule; a `lazy` one, which is a terminal, ends as early as it can."""
        return self._name("r", "[lazy]" if lazy else "", body)

    def word(self, body: str) -> str:
        """The name of a terminal: text that no special token stands in."""
        return self._name("W", "", body)

    def text(self, start: str) -> str:
        """The whole grammar."""
        lines = [f"{name}{options}: {body}\n" for (options, body), name in self._names.items()]
        return f"start: {start}\n{''.join(lines)}"

    def _name(self, letter: str, options: str, body: str) -> str:
        key = (options, body) if letter == "r" else ("", body)
        if letter == "W":
            key = ("", f" {body}")  # apart from a rule that says the same
        return self._names.setdefault(key, f"{letter}{len(self._names)}")


@dataclass(frozen=True)
class Marks:
    """The special tokens of a vocabulary, `ids` by spelling, and which of them end an answer."""

    ids: Mapping[str, int]
    ends: frozenset[int]

    def here(self, mark: str) -> str:
        """A marker at this place: its token, or its text where there is none."""
        return f"<[{self.ids[mark]}]>" if mark in self.ids else quote(mark)

    def ends_answer(self, mark: str) -> bool:
        """Whether the marker is a token that ends an answer."""
        return self.ids.get(mark) in self.ends

    def known(self, marks: Iterable[str]) -> list[str]:
        """Those that are tokens, or all of them where none is."""
        listed = list(marks)
        return [mark for mark in listed if mark in self.ids] or listed


def free_until(
    rules: LarkRules, marks: Marks, exits: Sequence[tuple[str, str]], may_end: bool, without: Sequence[str] = ()
) -> str:
    """Free text up to a marker, which what is written behind it follows; or, where it `may_end`, to its end.

    Special tokens may stand in it. A marker counts as a token and spelled out alike, as it does to those who read.
    """
    some = rules.word(f"/(?s:.+)/{_lacking(without)}")
    taken = {marks.ids[mark] for mark in (*without, *(mark for mark, _ in exits)) if mark in marks.ids} | marks.ends
    others = _ranges(sorted(set(marks.ids.values()) - taken))
    before = f"({some}? <[{others}]>)* " if others else ""
    options = [f"{some}?"] if may_end else []
    for mark, behind in exits:
        if mark in marks.ids:
            options.append(f"{some}? <[{marks.ids[mark]}]> {behind}")
        head = rules.rule(rules.word(f"/(?s:.*){letters(mark)}/{_lacking(without)}"), lazy=True)
        options.append(f"{head} {behind}")
    return f"{before}({' | '.join(options)})"


def quote(text: str) -> str:
    """A text as a literal."""
    return json.dumps(text, ensure_ascii=False)


def letters(text: str) -> str:
    """A text as a regular expression, without slashes."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):X}}}" for c in text)


def lacking(texts: Sequence[str]) -> str:
    """A terminal: any text that holds none of these."""
    return f"({ANY_TEXT}{_lacking(texts)})"


def _lacking(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f" & {ANY_TEXT} & ~/(?s:.*)({'|'.join(map(letters, texts))})(?s:.*)/"


def _ranges(ids: Sequence[int]) -> str:
    found: list[list[int]] = []
    for token_id in ids:
        if found and token_id == found[-1][1] + 1:
            found[-1][1] = token_id
        else:
            found.append([token_id, token_id])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in found)
