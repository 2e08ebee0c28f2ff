"""Ids of calls as Anthropic's clients want them: no two alike in a whole conversation, since they keep results by them.

A model's own ids often begin anew in each answer. They are read back, because its template shows them.
"""

import re
import secrets

from moedge.edge_server.call_ids import decode_id

_GIVEN = re.compile(r"toolu_[0-9a-f]{12}_(.+)", re.DOTALL)


def give_call_id(identifier: str) -> str:
    """An id for the wire of a call that has this one among those of its answer."""
    return f"toolu_{secrets.token_hex(6)}_{identifier}"


def own_call_id(identifier: str) -> str:
    """The id that the model knows a call by; any other than ours is its own."""
    given = _GIVEN.fullmatch(identifier)
    return decode_id(given[1] if given else identifier)
