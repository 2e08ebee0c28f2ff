"""The merges of a byte-pair vocabulary, rebuilt from the order of its tokens alone.

It knows neither the file the vocabulary came from nor the tokenizer it goes into.
"""

import sys
from collections.abc import Mapping
from itertools import pairwise

_NEVER = sys.maxsize  # the rank of what is not in the vocabulary


def rebuild_merges(ranks: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges with which `tokenizers` encodes as tiktoken and SentencePiece's BPE do from the ranks alone.

    Such an encoder begins with single characters, and of all neighbours whose joined text has a rank it joins those of
    the lowest rank, the leftmost of equals, until none is left. `ranks` are all different.

    One merge a token is enough, the last one of that encoder run on the token by itself. For when it forms a token
    inside a longer text, no join has crossed the token's borders before, and those inside are, one by one, those of the
    token by itself: the lowest of the text, where it lies inside, is the lowest of the inside. A token which the
    encoder does not form from its own text is formed nowhere, and gets no merge.
    """
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = _last_pair(token, ranks)
        if parts is not None:
            merges.append(parts)
    return merges


def _last_pair(token: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts whose join is the whole token, or None if the encoder ends with more than two that do not join."""
    if len(token) < 2:
        return None
    parts = list(token)
    joined = [ranks.get(left + right, _NEVER) for left, right in pairwise(parts)]
    while len(parts) > 2:
        lowest = min(joined)
        if lowest == _NEVER:
            return None
        at = joined.index(lowest)
        parts[at] += parts.pop(at + 1)
        joined.pop(at)
        if at > 0:
            joined[at - 1] = ranks.get(parts[at - 1] + parts[at], _NEVER)
        if at < len(joined):
            joined[at] = ranks.get(parts[at] + parts[at + 1], _NEVER)
    return parts[0], parts[1]
