"""A folder that appears at once or not at all: filled as a hidden sibling, made durable, then renamed into place.

Whatever happens, a bundle that stood at the target keeps standing there until the new one is complete.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.writing.journal import JOURNAL_NAME, UnfinishedError, describe_kept


@contextmanager
def publish(target: Path, replace: bool = True) -> Iterator[Path]:
    """A hidden sibling folder to fill; on success it becomes `target` in one step, which only `replace` may replace.

    It comes with what an earlier process left in it, for the caller to use or to remove. On failure it disappears,
    unless the export can be resumed: an UnfinishedError keeps it always, a mistake of the user (MoedgeError) never,
    anything else (a full disk, Ctrl-C) if a stage was finished. MoedgeError if another process is filling it.
    """
    refuse_impossible(target)
    target = target.resolve()  # what a link stands for is replaced, not the link
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = partial_folder(target)
    lock = _lock(folder)
    if lock is None:
        raise _taken(target)
    keep = False
    try:
        yield folder
        for path in folder.iterdir():
            _sync(path)
        if target.exists() and not replace:
            raise UnfinishedError(f"{target} has appeared meanwhile: move it away, then run it again with --resume.")
        (folder / JOURNAL_NAME).unlink(missing_ok=True)  # from here on there is nothing to resume
        _sync(folder)
        if target.exists():
            _exchange(folder, target)
        else:
            folder.rename(target)
        _sync(target.parent)
    except BaseException as error:
        said = None if isinstance(error, MoedgeError) else describe_kept(folder)
        keep = said is not None or isinstance(error, UnfinishedError)
        room = _room(folder, target, error) if isinstance(error, OSError) else ""
        if said is not None and isinstance(error, OSError):
            raise UnfinishedError(
                f"the export stopped ({error.strerror or error}){room}, and when that is mended: {said}."
            ) from error
        if room and isinstance(error, OSError):
            where = error.filename or target
            raise MoedgeError(
                f"the disk is full ({error.strerror}) while writing {where}{room}: free some space and run it again."
            ) from error
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _room(folder: Path, target: Path, error: OSError) -> str:
    """How much was written and how much is free, where that is what the error is about."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ""
    written = sum(path.lstat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(target.parent).free
    return f", with {written} bytes written and {free} bytes free in {target.parent}"


def refuse_impossible(target: Path) -> None:
    """Raise MoedgeError if `publish` could not make the target, as far as that can be told without writing anything."""
    try:
        target, folder = target.resolve(), partial_folder(target)
        folder.lstat()  # too long a name, a file where a folder should be, folders that nobody may look into
        place = folder
    except FileNotFoundError:
        place = next(path for path in folder.parents if path.exists())
    except (OSError, RuntimeError) as error:  # the latter of links in a circle
        reason = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise MoedgeError(f"{target} cannot be made ({reason}): choose another name.") from None
    if target.is_mount():
        raise MoedgeError(f"{target} is a mount point, which nothing can replace: choose a folder inside of it.")
    if not place.is_dir():
        raise MoedgeError(f"{place} is in the way, where {target} is made: move it away, or choose another name.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise MoedgeError(f"{target} cannot be made, as {place} may not be written to: choose another folder.")
    if not os.access(place, os.R_OK):
        return  # whether it can be locked is seen once there is a folder in it
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        if place == folder:
            raise _taken(target) from None
    except OSError as error:
        raise _without_locks(folder, error) from error
    finally:
        os.close(descriptor)


def _taken(target: Path) -> MoedgeError:
    return MoedgeError(f"another export is writing {target}: wait for it, or choose another name.")


def _without_locks(folder: Path, error: OSError) -> MoedgeError:
    """As on some network file systems."""
    return MoedgeError(
        f"{folder.parent} cannot be locked against a second export ({error.strerror or error}): choose a folder on "
        "a local disk."
    )


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process does, or has just published the folder.

    MoedgeError if there are no locks where the folder is.
    """
    folder.mkdir(exist_ok=True)
    lock, held = -1, False
    try:
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock).st_ino == folder.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        with contextlib.suppress(OSError):  # not empty: an interrupted export, which stays
            folder.rmdir()
        raise _without_locks(folder, error) from error
    finally:
        if not held and lock >= 0:
            os.close(lock)
    return lock if held else None


def partial_folder(target: Path) -> Path:
    """Where the bundle at `target` is made, and what a killed export leaves."""
    target = target.resolve()
    return target.parent / f".{target.name}.partial"


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders atomically where the system can (Linux), so that a bundle stands at `old` at every moment."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, exchange = -100, 2
    if renameat2 is not None and renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0:
        return
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)  # of an export that was killed below
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
