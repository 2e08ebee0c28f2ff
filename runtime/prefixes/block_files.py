"""Blocks on disk, a file each, within a budget: what was used least recently is deleted first.

Files are written by a thread of their own. Several processes may use one folder: each sees the files that were there
when it looked, and one that is gone is as one that never was.
"""

import contextlib
import logging
import os
import queue
import re
import shutil
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache.cache_blocks import CacheBlock
from moedge.runtime.prefixes.block_file import HEADER_BYTES, BadFile, own_user, read_block_file, write_block_file
from moedge.runtime.prefixes.names import NAME_BYTES

log = logging.getLogger(__name__)
FOLDER = "prefixes"  # within the folder that the user names; whatever is in it is ours
_FILE = re.compile(rf"([0-9a-f]{{{2 * NAME_BYTES}}})-([0-9a-f]{{1,8}})\.block")
_SPARE = ".part"
MOST_BYTES = 4 << 30  # unless told otherwise
SPARE_SECONDS = 3600.0  # after which a file that was never finished is nobody's
LOOK_AGAIN = 256  # files that are written until it is looked what others have


@dataclass(frozen=True)
class _Entry:
    held: int
    nbytes: int


class BlockFiles:
    """Up to `budget` bytes of files in a folder of `cache_dir`; MoedgeError if it cannot be used.

    None: MOST_BYTES, or a tenth of what is free there where that is less.
    `find` gives the block of a name that is to be written, None if it is gone by then.
    """

    def __init__(self, cache_dir: Path, budget: int | None, find: Callable[[bytes], CacheBlock | None]) -> None:
        self._folder = _open_folder(cache_dir)
        self.budget = min(MOST_BYTES, shutil.disk_usage(self._folder).free // 10) if budget is None else budget
        self.evictions = 0
        self.rejected = 0  # files that were not as they were written
        self._find = find
        self._lock = threading.Lock()  # guards the next three
        self._entries = OrderedDict[bytes, _Entry]()  # least recently used first
        self._nbytes = 0
        self._wanted = set[bytes]()  # to be written
        self._names = queue.SimpleQueue[bytes | None]()
        self._spares = count()
        self._writes = True
        self._look()
        self._thread = threading.Thread(target=self._work, name="moedge-prefixes", daemon=True)
        self._thread.start()

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return self._nbytes

    @property
    def count(self) -> int:
        """Files."""
        return len(self._entries)

    def held(self, name: bytes) -> int:
        """The groups that the block has here; 0: there is no file."""
        with self._lock:
            return self._held(name)

    def read(self, name: bytes, nbytes_of: Callable[[int], int]) -> CacheBlock | None:
        """The block; None if its file is gone or not as it was written, which is deleted then."""
        held = self.held(name)
        path = self._path(name, held)
        try:
            block = read_block_file(path, name, nbytes_of)
            if block.held == held:
                with self._lock:
                    if name in self._entries:
                        self._entries.move_to_end(name)
                return block
        except OSError:
            self._forget(name)
            return None
        except BadFile:
            pass
        self.rejected += 1
        self._delete(name, held)
        return None

    def write(self, name: bytes, held: int) -> None:
        """Have a block with these groups written, unless it is there."""
        with self._lock:
            if not self._writes or name in self._wanted or not held & ~self._held(name):
                return
            self._wanted.add(name)
        self._names.put(name)

    @property
    def pending(self) -> int:
        """Blocks that are still to be written."""
        return len(self._wanted)

    def close(self, wait_seconds: float) -> None:
        """Write what is pending, as far as there is time."""
        self._names.put(None)
        self._thread.join(wait_seconds)

    def _held(self, name: bytes) -> int:
        entry = self._entries.get(name)
        return entry.held if entry else 0

    def _path(self, name: bytes, held: int) -> Path:
        return self._folder / f"{name.hex()}-{held:x}.block"

    def _work(self) -> None:
        for number in count(1):
            name = self._names.get()
            if name is None:
                return
            block = self._find(name)
            try:
                if block is not None and self._writes:
                    self._write(name, block)
                if not number % LOOK_AGAIN:
                    self._look()
            except OSError as error:
                self._writes = False
                log.warning("no more prefixes are kept in %s: %s", self._folder, error.strerror or error)
            finally:
                with self._lock:
                    self._wanted.discard(name)

    def _write(self, name: bytes, block: CacheBlock) -> None:
        nbytes, before = HEADER_BYTES + block.data.nbytes, self.held(name)
        if nbytes > self.budget or not block.held & ~before:
            return
        spare = self._folder / f"{name.hex()}-{os.getpid()}-{next(self._spares)}{_SPARE}"
        write_block_file(self._path(name, block.held), spare, name, block)
        if before and before != block.held:
            self._delete(name, before)
        self._note(name, _Entry(block.held, nbytes))
        self._make_room()

    def _note(self, name: bytes, entry: _Entry) -> None:
        self._forget(name)
        with self._lock:
            self._entries[name] = entry
            self._nbytes += entry.nbytes

    def _make_room(self) -> None:
        while self._nbytes > self.budget:
            with self._lock:
                name, entry = next(iter(self._entries.items()))
            self._delete(name, entry.held)
            self.evictions += 1

    def _forget(self, name: bytes) -> None:
        with self._lock:
            entry = self._entries.pop(name, None)
            self._nbytes -= entry.nbytes if entry else 0

    def _delete(self, name: bytes, held: int) -> None:
        self._forget(name)
        with contextlib.suppress(OSError):
            self._path(name, held).unlink()

    def _look(self) -> None:
        """Find what is in the folder, and delete what nobody will finish."""
        found = list[tuple[float, bytes, _Entry]]()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    facts, match = entry.stat(follow_symlinks=False), _FILE.fullmatch(entry.name)
                    if match and stat.S_ISREG(facts.st_mode):
                        groups = _Entry(int(match[2], 16), facts.st_size)
                        found.append((facts.st_mtime, bytes.fromhex(match[1]), groups))
                    elif match or not entry.name.endswith(_SPARE) or time.time() - facts.st_mtime > SPARE_SECONDS:
                        (self._folder / entry.name).unlink()
        with self._lock:
            self._entries.clear()
            self._nbytes = 0
        for _, name, groups in sorted(found, key=lambda each: each[:2]):
            if before := self.held(name):  # two processes wrote it, of which one had more
                self._delete(name, before)
            self._note(name, groups)
        self._make_room()


def _open_folder(cache_dir: Path) -> Path:
    folder = cache_dir / FOLDER
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != own_user():
            raise MoedgeError(f"{folder} is not a folder of this user's: remove it, or keep prefixes elsewhere.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise MoedgeError(
            f"prefixes cannot be kept in {cache_dir} ({error.strerror or error}): name a folder that can be written."
        ) from None
    return folder
