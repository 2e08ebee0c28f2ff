"""The journal of an export: how far it has come, so that a killed one can be resumed.

`journal.jsonl` lies beside the weights until the bundle is published. Its first line says what the export was begun
with, every further line that a stage is finished: the weights file is on the disk up to `end`, with that sha256.
It knows nothing of graphs; weights_file.py says what is finished.
"""

import json
import os
import shutil
from collections.abc import Container
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cattrs

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import WEIGHTS_NAME

JOURNAL_NAME = "journal.jsonl"
ANEW = "leave out --resume and say --force to begin anew"


class UnfinishedError(MoedgeError):
    """An export that has not ended, and whose finished part is kept for `--resume`."""


@dataclass(frozen=True)
class Planned:
    """The schemes that a target has led to; `kl` is what is expected of them, None where nothing was measured."""

    places: tuple[tuple[str, int | None, str], ...]  # group, layer, and the scheme's name
    kl: float | None


@dataclass(frozen=True)
class Recipe:
    """What the bytes of an export depend on: another value of any of these, and nothing can be reused.

    `planned` follows from the others, but for the last bits of a measurement: who resumes takes it over.
    """

    moedge: str
    numpy: str
    scheme: str
    scales: str
    rounding: str
    experts: str
    context: int
    config: str  # sha256
    shards: dict[str, str]  # see Checkpoint.identity
    planned: Planned | None = None

    def difference(self, other: "Recipe") -> str | None:
        """What sets the other one apart, in words; None if they are equal."""
        if self.config != other.config or self.shards != other.shards:
            return "the checkpoint has changed since"
        for name, asked in (
            ("scheme", "--"),
            ("scales", ""),
            ("rounding", ""),
            ("experts", "--"),
            ("context", "--"),
            ("moedge", ""),
            ("numpy", ""),
        ):
            was, now = getattr(self, name), getattr(other, name)
            if was != now:
                return f"it was begun with {asked}{name} {was}, and this is {now}"
        if self.planned != other.planned:
            return "its target has led to another plan since"
        return None


@dataclass(frozen=True)
class Mark:
    """A finished stage: where it ends in the weights file, the hash of all before, the tensors that it consumed."""

    stage: str
    end: int
    sha256: str
    tensors: list[str]


class Journal:
    """The open journal of a folder; `marks` are those of an earlier run and this one."""

    def __init__(self, folder: Path, recipe: Recipe, resume: bool, force: bool) -> None:
        """Begin anew or, with `resume`, go on; clears the folder of whatever does not belong to that.

        UnfinishedError if there is something to resume and neither was asked for, or if it has another recipe.
        """
        path = folder / JOURNAL_NAME
        begun, self.marks, length = _read(path) if resume or not force else (None, [], 0)
        if begun is None or not self.marks:
            self.marks, length = [], 0
        elif not resume:
            refuse_kept(folder)
        else:
            _refuse_other(folder, begun, recipe)
        clear(folder, (JOURNAL_NAME, WEIGHTS_NAME) if self.marks else ())
        self.resumed_after = self.marks[-1].stage if self.marks else None
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.ftruncate(self._descriptor, length)
            if not self.marks:
                self._append(recipe)
        except BaseException:
            os.close(self._descriptor)
            raise

    def add(self, mark: Mark) -> None:
        """Note a stage as finished; its part of the weights file must be durable already."""
        self._append(mark)
        self.marks.append(mark)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _append(self, entry: Recipe | Mark) -> None:
        data = json.dumps(asdict(entry)).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)


def clear(folder: Path, kept: Container[str] = ()) -> None:
    """Remove everything from a folder but plain files of those names."""
    for left in folder.iterdir():
        if not left.is_file() or left.is_symlink() or left.name not in kept:
            _remove(left)


def kept_plan(folder: Path, recipe: Recipe) -> Planned | None:
    """What an interrupted export of that recipe was planned with, None if there is none.

    UnfinishedError if it is broken, or if it has another recipe.
    """
    begun, marks, _ = _read(folder / JOURNAL_NAME)
    if begun is None or not marks:
        return None
    _refuse_other(folder, begun, replace(recipe, planned=begun.planned))
    return begun.planned


def _refuse_other(folder: Path, begun: Recipe, recipe: Recipe) -> None:
    if difference := begun.difference(recipe):
        raise UnfinishedError(f"the interrupted export in {folder} cannot go on: {difference}; {ANEW}.")


def refuse_kept(folder: Path) -> None:
    """Raise UnfinishedError if an interrupted export is there, for whoever has not said what is to become of it."""
    if said := describe_kept(folder):
        raise UnfinishedError(f"{said}, or with --force to begin anew.")


def describe_kept(folder: Path) -> str | None:
    """That an interrupted export is there and what to do, a sentence without full stop; None if nothing is finished."""
    _, marks, _ = _read(folder / JOURNAL_NAME)
    if not marks:
        return None
    return (
        f"{folder} keeps an interrupted export, finished as far as {marks[-1].stage} ({marks[-1].end / 1e9:.1f} GB); "
        "run it again with --resume to go on"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _read(path: Path) -> tuple[Recipe | None, list[Mark], int]:
    """Recipe, marks, and their length in bytes; a last line that a kill has cut short does not count."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None, [], 0
    length = data.rfind(b"\n") + 1
    try:
        entries = [json.loads(line) for line in data[:length].splitlines()]
        if not entries:
            return None, [], 0
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("a line is no object")
        convert = cattrs.Converter(forbid_extra_keys=True)
        marks = [convert.structure(entry, Mark) for entry in entries[1:]]
        return convert.structure(entries[0], Recipe), marks, length
    except (ValueError, RecursionError, cattrs.BaseValidationError):
        raise UnfinishedError(f"{path} is broken, so that nothing can be resumed: {ANEW}.") from None
