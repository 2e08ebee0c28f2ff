"""API keys: where they are read from, how one is found in a request, and what stands for its owner elsewhere.

Only digests are compared and kept; the owner that a key becomes tells nobody the key.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from werkzeug.datastructures import Headers

from moedge.devices.errors import MoedgeError

log = logging.getLogger(__name__)

SHORTEST_KEY = 8  # characters
LONGEST_FILE = 64 << 10  # bytes
KEY_HEADERS = ("x-api-key", "api-key")  # Anthropic's and Azure's
OWNER = b"moedge owner 1\0"


@dataclass(frozen=True)
class Keys:
    """The keys that are accepted, as digests; none: nobody is asked for one."""

    digests: tuple[bytes, ...] = field(default=(), repr=False)
    owners: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: Sequence[str]) -> "Keys":
        """Of their texts; MoedgeError for one that is too short, or that no header can carry."""
        for key in keys:
            if not (key.isascii() and key.isprintable() and len(key) >= SHORTEST_KEY):
                raise MoedgeError(
                    f"an API key must be at least {SHORTEST_KEY} printable ASCII characters without blanks and commas: "
                    "set MOEDGE_API_KEY to a longer one."
                )
        unique = tuple(dict.fromkeys(keys))
        owners = tuple(hashlib.sha256(OWNER + key.encode()).hexdigest()[:32] for key in unique)
        return cls(tuple(_digest(key) for key in unique), owners)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def owner_of(self, headers: Headers) -> str | None:
        """Whose request this is, by the first place that holds a key; None if none does.

        Every key is compared with every place, in a time that says nothing of how much agrees.
        """
        found = None
        for sent in _sent(headers):
            digest = _digest(sent)
            for known, owner in zip(self.digests, self.owners, strict=True):
                same = hmac.compare_digest(known, digest)
                found = owner if same and found is None else found
        return found


NO_KEYS = Keys()


def split_keys(text: str) -> tuple[str, ...]:
    """The keys of one text, such as MOEDGE_API_KEY: blanks, line ends or commas stand between them.

    MoedgeError if there is none: an empty text is a mistake, not a wish to need no key.
    """
    keys = tuple(text.replace(",", " ").split())
    if not keys:
        raise MoedgeError("the API key is empty: set MOEDGE_API_KEY to at least 8 characters, or leave it unset.")
    return keys


def read_key_file(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line, without lines that begin with #; MoedgeError if it cannot be read or has none."""
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise MoedgeError(
            f"the file of API keys {path} cannot be read ({error.strerror}): see --api-key-file."
        ) from None
    except UnicodeDecodeError:
        raise MoedgeError(f"the file of API keys {path} holds more than ASCII: write one key a line.") from None
    if len(data) > LONGEST_FILE:
        raise MoedgeError(f"the file of API keys {path} has more than {LONGEST_FILE} bytes: write one key a line.")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if not " ".join(lines).strip():
        raise MoedgeError(f"the file of API keys {path} has no key: write one a line.")
    if mode & stat.S_IROTH:
        log.warning("everybody on this machine can read the API keys in %s: chmod 600 it.", path)
    return split_keys(" ".join(lines))


def _sent(headers: Headers) -> Iterator[str]:
    """What may be a key, wherever clients put one."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    elif scheme.lower() == "basic":  # browsers; the name is anybody's
        yield _password(value.strip())
    for name in KEY_HEADERS:
        if (sent := headers.get(name)) is not None:
            yield sent.strip()


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError, ValueError):
        return ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
