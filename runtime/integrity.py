"""Whether a bundle on disk is what its manifest says: every file there, whole, plain, and no other.

ONNX Runtime loads flipped bits and hard links without complaint, so integrity is checked here before it opens
anything. What the manifest means is in manifest.py; sizes in memory are in sizes.py.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import MANIFEST_NAME, MODEL_NAME, WEIGHTS_NAME, FileEntry, Manifest, read_manifest

OnHashed = Callable[[int, int], None]  # bytes hashed so far, bytes in all

CHUNK_BYTES = 8 << 20  # Python takes a turn between them, for which a busy thread makes it wait
POLL_SECONDS = 0.02  # between looks at whether whoever waits has given up
MOST_MANIFEST_BYTES = 64 << 20


def say_nothing(done: int, total: int) -> None:
    """An OnHashed that nobody hears."""


class HashCheck:
    """The check of a bundle's sha256 sums, once its quick checks are done: weights beside other work.

    What onnxruntime and tokenizers parse is checked at once, by the constructor: MoedgeError names the first problem.
    Weights, which are numbers whatever they are, are read on a thread meanwhile, or not `beside` other work by the
    first `wait`, which says what was found. Used as a context, it ends with it.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, on_hashed: OnHashed = say_nothing, beside: bool = True
    ) -> None:
        self._folder = folder
        self._done = threading.Event()
        self._closed = False
        self._problem: str | None = None
        weights = {name: entry for name, entry in manifest.files.items() if name == WEIGHTS_NAME}
        others = {name: entry for name, entry in manifest.files.items() if name != WEIGHTS_NAME}
        total, first = _bytes_of(manifest.files), _bytes_of(others)
        self._problem = next(_hash_problems(folder, others, lambda done, _: on_hashed(done, total)), None)
        self.raise_problem()

        def go_on(done: int, _: int) -> None:
            if self._closed:
                raise RuntimeError("it was ended")
            on_hashed(first + done, total)

        def check() -> None:
            try:
                self._problem = next(_hash_problems(folder, weights, go_on), None)
            except BaseException as error:  # whoever waits must learn of it
                self._problem = f"its check failed ({error})"
            finally:
                self._done.set()

        self._check = None if beside else check
        if beside:
            threading.Thread(target=check, name="moedge-hashes", daemon=True).start()

    def __enter__(self) -> "HashCheck":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End a check that nobody will wait for, at its next piece of a file."""
        self._closed = True

    def wait(self, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """Until all is checked; False if `gives_up` said so before. MoedgeError if the bundle is not intact."""
        if self._check is not None:
            check, self._check = self._check, None
            check()
        while not self._done.wait(POLL_SECONDS):
            if gives_up():
                return False
        self.raise_problem()
        return True

    def raise_problem(self) -> None:
        """MoedgeError if a problem was found by now."""
        if self._problem is not None:
            raise _not_intact(self._folder, self._problem)


def open_bundle(path: Path, check_hashes: bool = True, on_hashed: OnHashed = say_nothing) -> Manifest:
    """The manifest of the bundle in folder `path`, after every check; without hashes, after the quick ones.

    `on_hashed` is called after each chunk that was hashed. Raises MoedgeError that names the first problem.
    """
    manifest = _read_manifest(path)
    for problem in _problems(path, manifest, check_hashes, on_hashed):
        raise _not_intact(path, problem)
    return manifest


def check_bundle(path: Path, on_hashed: OnHashed) -> list[str]:
    """Every problem of the bundle in folder `path`, a line each, quick checks first; empty if it is intact.

    `on_hashed` is called after each chunk that was hashed. If the manifest itself does not hold, that is the only
    problem told: nothing else can be checked then. Raises MoedgeError if `path` is no bundle at all.
    """
    try:
        manifest = _read_manifest(path)
    except MoedgeError as error:
        if not os.path.lexists(path / MANIFEST_NAME):
            raise
        return [str(error)]
    return list(_problems(path, manifest, True, on_hashed))


def _not_intact(folder: Path, problem: str) -> MoedgeError:
    return MoedgeError(f"Bundle {folder} is not intact, {problem}: copy or export it again.")


def _bytes_of(files: Mapping[str, FileEntry]) -> int:
    return sum(entry.size for entry in files.values())


def _read_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise MoedgeError(f"There is no bundle folder {folder}: make one with `moedge export`.")
    if os.path.lexists(folder / MANIFEST_NAME):
        fault = _plain_file_fault((folder / MANIFEST_NAME).lstat())
        if fault:
            raise _not_intact(folder, f"{MANIFEST_NAME} {fault}")
        if (folder / MANIFEST_NAME).stat().st_size > MOST_MANIFEST_BYTES:
            raise MoedgeError(f"{folder / MANIFEST_NAME} is larger than {MOST_MANIFEST_BYTES} bytes: export it again.")
    return read_manifest(folder)


def _problems(folder: Path, manifest: Manifest, check_hashes: bool, on_hashed: OnHashed) -> Iterator[str]:
    if MODEL_NAME not in manifest.files:
        yield f"the manifest lists no {MODEL_NAME}"
    plain: dict[str, FileEntry] = {}
    for name, entry in manifest.files.items():
        fault = _name_fault(name) or _entry_fault(folder / name, entry)
        if fault:
            yield f"{name!r} {fault}"
        else:
            plain[name] = entry
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, not paths
        if name != MANIFEST_NAME and name not in manifest.files:
            yield f"{name!r} is not in the manifest"
    if check_hashes:
        yield from _hash_problems(folder, plain, on_hashed)


def _name_fault(name: str) -> str:
    if name == MANIFEST_NAME:
        return "cannot vouch for itself"
    path, foreign = PurePosixPath(name), PureWindowsPath(name)
    if path.is_absolute() or foreign.is_absolute() or foreign.drive:
        return "is an absolute path"
    if name in ("", ".", "..") or ".." in foreign.parts:
        return "leads out of the bundle"
    if name != path.name or name != foreign.name:
        return "lies in a sub-folder: a bundle has none"
    return "" if name.isprintable() else "has letters in its name that cannot be shown"


def _entry_fault(path: Path, entry: FileEntry) -> str:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    fault = _plain_file_fault(found)
    if fault:
        return fault
    return "" if found.st_size == entry.size else f"has {found.st_size} bytes, the manifest says {entry.size}"


def _plain_file_fault(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if stat.S_ISDIR(found.st_mode):
        return "is a folder: a bundle has none"
    if not stat.S_ISREG(found.st_mode):
        return "is not a plain file"
    if found.st_nlink > 1:
        return f"is a hard link ({found.st_nlink} names): what another name changes would change here"
    return ""


def _hash_problems(folder: Path, files: Mapping[str, FileEntry], on_hashed: OnHashed) -> Iterator[str]:
    total = _bytes_of(files)
    done = 0
    for name, entry in files.items():
        digest = hashlib.sha256()
        left = entry.size
        try:
            for chunk in _chunks(folder / name):
                digest.update(chunk)
                done, left = done + len(chunk), left - len(chunk)
                on_hashed(done, total)
                if left < 0:  # it grows while it is read
                    break
        except OSError as error:
            yield f"{name!r} cannot be read ({error.strerror or error})"
            continue
        if digest.hexdigest() != entry.sha256:
            yield f"{name!r} is not as it was written (its sha256 does not match)"


def _chunks(path: Path) -> Iterator[memoryview]:
    """The file in pieces, each in the memory of the one before."""
    # A link or pipe that was put there since the quick check is not followed and not waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        if fault := _plain_file_fault(os.fstat(file.fileno())):
            raise OSError(fault)
        room = memoryview(bytearray(min(CHUNK_BYTES, os.fstat(file.fileno()).st_size + 1)))
        while count := file.readinto(room):
            yield room[:count]
