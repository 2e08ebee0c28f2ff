"""The file of one block: written whole or not at all, and believed only if every byte is as it was written.

magic 8, version 4, groups held 4, length 8, name 32, checksum 16, then `length` bytes of data; numbers little-endian.
The checksum is BLAKE2b of all the rest.
"""

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moedge.runtime.cache.cache_blocks import CacheBlock
from moedge.runtime.prefixes.names import NAME_BYTES

MAGIC, VERSION = b"moedgeKV", 1
_FACTS = struct.Struct(f"<8sIIQ{NAME_BYTES}s")
CHECKSUM_BYTES = 16
HEADER_BYTES = _FACTS.size + CHECKSUM_BYTES


class BadFile(Exception):  # noqa: N818 - never seen outside: such a file is deleted
    """A block's file is not what was written under its name."""


def write_block_file(path: Path, spare: Path, name: bytes, block: CacheBlock) -> None:
    """Write it as `spare`, a path that is nobody's, and give it its name; OSError leaves neither."""
    data = block.data.data
    facts = _FACTS.pack(MAGIC, VERSION, block.held, data.nbytes, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(spare, flags, 0o600), "wb", buffering=0) as file:
            for part in (memoryview(facts + _checksum(facts, data)), data):
                left = part
                while len(left):
                    left = left[file.write(left) :]
        spare.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            spare.unlink()
        raise


def read_block_file(path: Path, name: bytes, nbytes_of: Callable[[int], int]) -> CacheBlock:
    """The block of that name; `nbytes_of` tells how many bytes the groups have that it holds.

    BadFile if it is a link, no plain file, not ours, cut off or altered; OSError if it cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise BadFile("a link")
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != own_user():
            raise BadFile("not a plain file of this user's")
        header = file.read(HEADER_BYTES)
        if len(header) != HEADER_BYTES:
            raise BadFile("cut off")
        facts, checksum = header[: _FACTS.size], header[_FACTS.size :]
        magic, version, held, nbytes, named = _FACTS.unpack(facts)
        if (magic, version, named) != (MAGIC, VERSION, name) or nbytes != nbytes_of(held):
            raise BadFile("another file")
        if found.st_size != HEADER_BYTES + nbytes:
            raise BadFile("cut off")
        data = np.empty(nbytes, np.uint8)
        left = data.data
        while len(left) and (count := file.readinto(left)):
            left = left[count:]
        if len(left) or _checksum(facts, data.data) != checksum:
            raise BadFile("altered")
        with contextlib.suppress(OSError):
            os.utime(file.fileno() if os.utime in os.supports_fd else path)  # it was used
    return CacheBlock(held, data)


def own_user() -> int:
    """The number of the user that this process runs as; 0 where users have none, as of all files there."""
    return getattr(os, "geteuid", int)()


def _checksum(facts: bytes, data: memoryview) -> bytes:
    digest = hashlib.blake2b(facts, digest_size=CHECKSUM_BYTES)
    digest.update(data)
    return digest.digest()
