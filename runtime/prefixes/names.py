"""Names of blocks: a hash of all that decides what a block holds, so that equal names are equal contents."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

NAME_BYTES = 32


def seed_of(identity: bytes, owner: str) -> bytes:
    """What the first block's name continues: no two owners, and no two models, share any."""
    digest = hashlib.sha256(b"moedge prefix 1\0")
    for part in (identity, owner.encode("utf-8", "surrogatepass")):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def block_names(seed: bytes, token_ids: Sequence[int], tokens: int) -> list[bytes]:
    """The name of each whole block of so many tokens: the hash of the name before it and of the block's tokens."""
    names, ends = [seed], range(0, len(token_ids) + 1, tokens)
    for first, last in pairwise(ends):
        digest = hashlib.sha256(names[-1])
        digest.update(np.asarray(token_ids[first:last], "<i8").tobytes())
        names.append(digest.digest())
    return names[1:]
