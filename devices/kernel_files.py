"""Small files that the kernel shows under /proc and /sys, read so that nothing in them can stop a program.

A missing, unreadable, huge or malformed file reads as "not known" (an empty text, None, an empty list).
"""

import os
from pathlib import Path

MOST_BYTES = 1 << 20  # a 512-CPU /proc/cpuinfo is about 0.8 MB; everything else is a few lines
MOST_CPUS = 4096


def read_text(path: Path) -> str:
    """The text of the file, cut after 1 MiB; empty if it cannot be read."""
    try:
        # non-blocking, so that a pipe in a made-up tree does not wait for a writer
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError):
        return ""
    try:
        with os.fdopen(handle, "rb") as file:
            return (file.read(MOST_BYTES) or b"").decode("utf-8", "replace").strip("\0\r\n\t ")
    except OSError:
        return ""


def whole_number(text: str) -> int | None:
    """The non-negative whole number that `text` is, or None."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of a kernel list such as "0-3,8"; parts that are none are left out."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = whole_number(first), whole_number(last or first)
        if low is not None and high is not None:
            cpus.update(range(low, min(high, MOST_CPUS) + 1))
    return tuple(sorted(cpus))
