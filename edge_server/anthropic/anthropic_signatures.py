"""Signatures of thinking blocks: that a block is of this server, and the thinking itself where a client asked to have
it left out of the block's text.

They are no proof: whoever sends a conversation may say what was thought in it, as in any other format.
"""

import base64
import binascii

MARK = "moedge"


def sign(thought: str, shown: bool) -> str:
    """The signature of a block; of thinking that is not `shown` it is the only place."""
    hidden = "" if shown else f".{base64.urlsafe_b64encode(thought.encode()).decode()}"
    return f"{MARK}{hidden}"


def hidden_thought(signature: str) -> str | None:
    """The thinking that a signature holds, "" if none; None for one that was changed. Others' signatures hold none."""
    mark, dot, hidden = signature.partition(".")
    if mark != MARK or not dot:
        return ""
    try:
        return base64.b64decode(hidden, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
