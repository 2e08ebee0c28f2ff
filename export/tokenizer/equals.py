"""Tokens that share a rank: in which order merges make of them what an encoder does that takes the leftmost of equals.

Two rules, and a refusal of all else.

Tokens none of which lies in another, and in no earlier token: they compete for a character where the end of one is the
beginning of the other, and the left one wins. So whatever can stand left has the earlier place. Where both can, as of
"ab" and "ba", no order will do.

Runs of one character: of all equals the leftmost first, so that the first run grows as far as runs of the vocabulary
allow, to length F at most, and then the next. Where F is a power of two, doubling everything comes to the same as far
as whole F go, and what is left behind them are the binary digits of a length below F, the largest first. They are added
up from the left. Where F is none, two times F already comes out otherwise.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

NEVER = sys.maxsize  # the rank of what is not in the vocabulary

Rank = Callable[[str, str], int]  # how early two neighbours are joined


class AmbiguityError(ValueError):
    """Two tokens that an encoder by ranks treats in a way that no order of merges can follow."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one, other)
        self.one, self.other = one, other


@dataclass(frozen=True)
class Equals:
    """The tokens whose rank another one has; `runs` are those that share it with another run of their character."""

    tokens: frozenset[str]
    runs: frozenset[str]


def join(text: str, rank: Rank, least: int = 1) -> list[str]:
    """The characters of a text, joined by the lowest rank, the leftmost of equals, down to `least` parts."""
    parts = list(text)
    joined = [rank(*pair) for pair in pairwise(parts)]
    while len(parts) > least and (lowest := min(joined)) != NEVER:
        at = joined.index(lowest)
        parts[at] += parts.pop(at + 1)
        joined.pop(at)
        if at > 0:
            joined[at - 1] = rank(parts[at - 1], parts[at])
        if at < len(joined):
            joined[at] = rank(parts[at], parts[at + 1])
    return parts


def find_equals(ranks: Mapping[str, int]) -> Equals:
    """The equals among tokens of two characters and more."""
    holders = Counter(ranks.values())
    tokens = frozenset(token for token, rank in ranks.items() if holders[rank] > 1)
    runs = Counter((ranks[token], token[0]) for token in tokens if _is_run(token))
    return Equals(tokens, frozenset(t for t in tokens if _is_run(t) and runs[ranks[t], t[0]] > 1))


def place_equals(equals: Equals, ranks: Mapping[str, int]) -> dict[str, int]:
    """The places of equals among those of their rank; AmbiguityError if there is no right order but that of runs."""
    _refuse_inside(equals, ranks)
    beginnings = defaultdict(list)
    for token in sorted(equals.tokens):
        for end in range(1, len(token)):
            beginnings[token[:end]].append(token)
    before: dict[str, list[str]] = {token: [] for token in sorted(equals.tokens - equals.runs)}
    for left in sorted(equals.tokens):
        rights = [right for start in range(1, len(left)) for right in beginnings.get(left[start:], ())]
        for right in rights:
            if ranks[left] != ranks[right] or left == right or {left, right} <= equals.runs:
                continue
            if {left, right} & equals.runs:  # a run is made in steps, which leave it and come back to it
                raise AmbiguityError(left, right)
            before[right].append(left)
    try:
        others = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise AmbiguityError(*sorted(error.args[1][:2])) from None
    return {token: place for place, token in enumerate([*sorted(equals.runs, key=_run_place), *others])}


def _is_run(token: str) -> bool:
    return token == token[0] * len(token)


def _refuse_inside(equals: Equals, ranks: Mapping[str, int]) -> None:
    """Raise AmbiguityError if an equal lies in a token that is no later: making one would change what others can be."""
    lengths = sorted({len(token) for token in equals.tokens})
    for token in ranks:
        for part in _insides(token, lengths):
            if part not in equals.tokens or ranks[token] > ranks[part]:
                continue
            if ranks[token] < ranks[part] or token not in equals.runs:
                raise AmbiguityError(token, part)


def _insides(token: str, lengths: Iterable[int]) -> Iterator[str]:
    """Its parts of these lengths, but itself."""
    size = len(token)
    return (token[start : start + n] for n in lengths if n < size for start in range(size - n + 1))


def halve(run: str) -> tuple[str, str]:
    """A run of 2^n as two of 2^(n-1); of another length, its lowest binary digit and what stands before it."""
    digit = len(run) & -len(run)
    size = digit // 2 if digit == len(run) else digit
    return run[:-size], run[-size:]


def _run_place(run: str) -> tuple[bool, int, str]:
    """Doublings by length, then sums by falling last digit."""
    digit = len(run) & -len(run)
    return (False, digit, run) if digit == len(run) else (True, -digit, run)


def check_runs(equals: Equals, ranks: Mapping[str, int], merges: list[tuple[str, str]]) -> None:
    """Raise AmbiguityError unless the merges join runs as the ranks do, up to twice the longest, then all do so."""
    order = {pair: place for place, pair in enumerate(merges)}
    for character in sorted({run[0] for run in equals.runs}):
        runs = [token for token in ranks if _is_run(token) and token[0] == character]
        for length in range(1, 2 * max(map(len, runs)) + 1):
            text = character * length
            wanted = join(text, lambda left, right: ranks.get(left + right, NEVER))
            if wanted != join(text, lambda left, right: order.get((left, right), NEVER)):
                raise AmbiguityError(*sorted(equals.runs & set(runs), key=len)[:2])
