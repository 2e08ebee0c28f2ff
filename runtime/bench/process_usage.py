"""What the system counts for this process: memory by where its pages come from, and bytes read from storage."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Resident:
    """Bytes of memory that the process holds: of no file, and pages of files, which the system can take back."""

    anonymous: int
    file_backed: int

    def most(self, other: "Resident | None") -> "Resident":
        """The larger of two moments, each kind for itself."""
        if other is None:
            return self
        return Resident(max(self.anonymous, other.anonymous), max(self.file_backed, other.file_backed))


def resident(process: Path = PROCESS) -> Resident | None:
    """Now; None where the system does not tell."""
    sizes = _fields(process / "status")
    if "RssAnon" not in sizes:
        return None
    return Resident(1024 * sizes["RssAnon"], 1024 * (sizes["RssFile"] + sizes.get("RssShmem", 0)))


def storage_bytes(process: Path = PROCESS) -> int | None:
    """Bytes that were fetched from storage for this process so far; None where the system does not tell."""
    return _fields(process / "io").get("read_bytes")


def forget_files(folder: Path) -> None:
    """Ask the system to drop its copies in memory of a folder's files; it keeps those that somebody has mapped."""
    for path in folder.iterdir():
        with _opened(path) as descriptor:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fields(path: Path) -> dict[str, int]:
    """The whole numbers of a file of `name: number [kB]` lines; none if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    found = {name: rest.split()[:1] for name, rest in pairs}
    return {name: int(rest[0]) for name, rest in found.items() if rest and rest[0].isdigit()}
