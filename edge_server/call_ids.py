"""Ids of calls as clients see them: letters, digits, dashes and underscores, and no two alike in one answer.

Some models write others (`functions.f:0`), some clients refuse those. What was changed for them is read back when a
conversation returns, because the model's template shows ids.
"""

import re
import secrets

LONGEST = 128  # characters on the wire
_PREFIX = "call-"
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_ENCODED = re.compile(rf"{_PREFIX}((?:[A-Za-z0-9_]|-[0-9a-f]{{2}})+)")


class CallIds:
    """The ids of one answer's calls."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def name(self, written: str) -> str:
        """The id for the next call, of which the model wrote `written`."""
        identifier = encode_id(written)
        if identifier in self._given or len(identifier) > LONGEST:
            identifier = secrets.token_hex(5)[:9]  # of the form that Mistral's templates ask for
        self._given.add(identifier)
        return identifier


def encode_id(written: str) -> str:
    """An id for the wire: as it is where it fits, otherwise with each other byte of its UTF-8 in hexadecimal."""
    if _PLAIN.fullmatch(written) and not written.startswith(_PREFIX):
        return written
    return _PREFIX + "".join(
        chr(byte) if re.fullmatch(rb"\w", bytes([byte]), re.ASCII) else f"-{byte:02x}" for byte in written.encode()
    )


def decode_id(identifier: str) -> str:
    """What `encode_id` made this id of; any other id is its own."""
    if found := _ENCODED.fullmatch(identifier):
        code = re.sub(r"-([0-9a-f]{2})|(\w)", lambda m: m[1] or f"{ord(m[2]):02x}", found[1])
        try:
            return bytes.fromhex(code).decode()
        except UnicodeDecodeError:
            return identifier
    return identifier
