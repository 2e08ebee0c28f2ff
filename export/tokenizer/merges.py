"""The merges of a byte-pair vocabulary, rebuilt from the ranks of its tokens alone.

It knows neither the file the vocabulary came from nor the tokenizer it goes into. What tokens of one rank do to one
another is equals.py's matter.
"""

from collections.abc import Mapping

from moedge.export.tokenizer.equals import NEVER, check_runs, find_equals, halve, join, place_equals


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
    equals = find_equals(joined)
    places = place_equals(equals, joined)
    merges = []
    for token in sorted(joined, key=lambda token: (joined[token], places.get(token, 0))):
        parts = halve(token) if token in equals.runs else _last_pair(token, joined)
        if parts is not None and all(len(part) == 1 or part in joined for part in parts):
            merges.append(parts)
    check_runs(equals, joined, merges)
    return merges


def _last_pair(token: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts whose join is the whole token, or None if the encoder ends with more than two that do not join."""
    parts = join(token, lambda left, right: ranks.get(left + right, NEVER), 2)
    return (parts[0], parts[1]) if len(parts) == 2 else None
