"""The merges of a byte-pair vocabulary, rebuilt from the ranks of its tokens alone.

It knows neither the file the vocabulary came from nor the tokenizer it goes into.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import pairwise

_NEVER = sys.maxsize  # the rank of what is not in the vocabulary

Rank = Callable[[str, str], int]  # how early two neighbours are joined


class AmbiguityError(ValueError):
    """Two tokens that an encoder by ranks treats in a way that no order of merges can follow."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one, other)
        self.one, self.other = one, other


def rebuild_merges(ranks: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges with which `tokenizers` encodes as tiktoken and SentencePiece's BPE do from the ranks alone.

    Such an encoder begins with single characters, and of all neighbours whose joined text has a rank it joins those of
    the lowest rank, the leftmost of equals, until none is left. Tokens may share a rank; AmbiguityError if they meet
    one another in a text in a way that merges, each with a place of its own, cannot follow.

    One merge a token is enough, the last one of that encoder run on the token by itself. For when it forms a token
    inside a longer text, no join has crossed the token's borders before, and those inside are, one by one, those of the
    token by itself: the lowest of the text, where it lies inside, is the lowest of the inside. A token which the
    encoder does not form from its own text is formed nowhere, and gets no merge.
    """
    joined = {token: rank for token, rank in ranks.items() if len(token) > 1}
    holders = Counter(joined.values())
    equals = {token for token, rank in joined.items() if holders[rank] > 1}
    _refuse_meetings(equals, ranks)
    merges = []
    for token in sorted(joined, key=lambda token: (ranks[token], *_place(token, equals))):
        parts = _halve(token) if token in equals and _is_run(token) else _last_pair(token, ranks)
        if parts is not None and all(len(part) == 1 or part in ranks for part in parts):
            merges.append(parts)
    _check_runs(equals, ranks, merges)
    return merges


def _last_pair(token: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts whose join is the whole token, or None if the encoder ends with more than two that do not join."""
    parts = _join(token, lambda left, right: ranks.get(left + right, _NEVER), 2)
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _join(text: str, rank: Rank, least: int = 1) -> list[str]:
    """The characters of a text, joined by the lowest rank, the leftmost of equals, down to `least` parts."""
    parts = list(text)
    joined = [rank(*pair) for pair in pairwise(parts)]
    while len(parts) > least and (lowest := min(joined)) != _NEVER:
        at = joined.index(lowest)
        parts[at] += parts.pop(at + 1)
        joined.pop(at)
        if at > 0:
            joined[at - 1] = rank(parts[at - 1], parts[at])
        if at < len(joined):
            joined[at] = rank(parts[at], parts[at + 1])
    return parts


def _is_run(token: str) -> bool:
    return token == token[0] * len(token)


def _refuse_meetings(equals: Collection[str], ranks: Mapping[str, int]) -> None:
    """Raise AmbiguityError where the order of tokens of one rank matters, runs of one character aside.

    It does not where none of them lies in or overlaps another, so that they never compete for a character, and where
    all that they lie in comes later, so that none of them makes an earlier join possible.
    """
    beginnings = defaultdict(list)
    for token in equals:
        for part in _beginnings(token):
            beginnings[part].append(token)
    for one in equals:
        for other in (other for part in _endings(one) for other in beginnings.get(part, ())):
            if ranks[one] == ranks[other] and one != other and not _is_run(one + other):
                raise AmbiguityError(*sorted((one, other)))
    lengths = sorted({len(token) for token in equals})
    for token in ranks:
        for part in _insides(token, lengths):
            if part not in equals or ranks[token] > ranks[part]:
                continue
            if ranks[token] < ranks[part] or not _is_run(token):
                raise AmbiguityError(token, part)


def _beginnings(token: str) -> Iterator[str]:
    return (token[:end] for end in range(1, len(token)))


def _endings(token: str) -> Iterator[str]:
    return (token[start:] for start in range(1, len(token)))


def _insides(token: str, lengths: Iterable[int]) -> Iterator[str]:
    """Its parts of these lengths, but itself."""
    size = len(token)
    return (token[start : start + n] for n in lengths if n < size for start in range(size - n + 1))


# Runs of one character that share a rank: the leftmost first, the first of them grows as far as runs of the vocabulary
# allow, then the next. Where that length is a power of two, doubling everything comes to the same, and what is left
# behind the last whole one are its binary digits, the largest first, which are then added up from the left.


def _halve(run: str) -> tuple[str, str]:
    """A run of 2^n as two of 2^(n-1); of another length, its lowest binary digit and what stands before it."""
    digit = len(run) & -len(run)
    return run[: len(run) // 2 if digit == len(run) else -digit], run[: digit // 2 if digit == len(run) else digit]


def _place(token: str, equals: Collection[str]) -> tuple[int, int, str]:
    """Where a token stands among those of its rank: doublings first, then sums by falling last digit."""
    if token not in equals:
        return 0, 0, ""
    digit = len(token) & -len(token)
    return (0, digit, token) if digit == len(token) else (1, -digit, token)


def _check_runs(equals: set[str], ranks: Mapping[str, int], merges: list[tuple[str, str]]) -> None:
    """Raise AmbiguityError unless the merges join runs as the ranks do, up to twice the longest, then all do so."""
    order = {pair: place for place, pair in enumerate(merges)}
    for character in sorted({token[0] for token in equals if _is_run(token)}):
        runs = [token for token in ranks if _is_run(token) and token[0] == character]
        for length in range(1, 2 * max(map(len, runs)) + 1):
            text = character * length
            wanted = _join(text, lambda left, right: ranks.get(left + right, _NEVER))
            if wanted != _join(text, lambda left, right: order.get((left, right), _NEVER)):
                raise AmbiguityError(*sorted(equals & set(runs), key=len)[:2])
