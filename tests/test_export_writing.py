"""What an export holds while it writes: locks, descriptors and the folder beside the target, when something fails."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.numpy import save_file

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint import folder as checkpoint_folder
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.shard import Shard
from moedge.export.writing import publish as publishing
from moedge.export.writing.journal import JOURNAL_NAME, Journal, Mark, Recipe, UnfinishedError
from moedge.export.writing.publish import partial_folder, publish
from moedge.export.writing.weights_file import WeightsFile
from moedge.runtime.manifest import WEIGHTS_NAME

RECIPE = Recipe("0", "0", "int4", "float16", "nearest", "fused", 8, "c", {})


def open_files() -> set[str]:
    """Every descriptor of this process, with what it stands for."""
    found = set()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add(f"{descriptor.name} {descriptor.readlink()}")
    return found


def fail(number: int):
    def failing(*_):
        raise OSError(number, os.strerror(number))

    return failing


def test_a_folder_that_cannot_be_locked_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    """NFS without a lock daemon."""
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    before = open_files()
    with (
        pytest.raises(MoedgeError, match=r"cannot be locked .*No locks available.* local disk\.$"),
        publish(tmp_path / "b"),
    ):
        pytest.fail("nothing may be written")
    assert open_files() == before
    assert list(tmp_path.iterdir()) == []
    partial_folder(tmp_path / "b").mkdir()
    (partial_folder(tmp_path / "b") / JOURNAL_NAME).write_text("kept")
    with pytest.raises(MoedgeError, match="cannot be locked"), publish(tmp_path / "b"):
        pytest.fail("nothing may be written")
    assert (partial_folder(tmp_path / "b") / JOURNAL_NAME).read_text() == "kept"


def test_a_mount_point_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """It can neither be swapped nor renamed, which would come out after the last stage."""
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "b")
    with pytest.raises(MoedgeError, match=r"is a mount point.*\.$"), publish(tmp_path / "b"):
        pytest.fail("nothing may be written")
    assert not partial_folder(tmp_path / "b").exists()


def put_aside(monkeypatch) -> None:
    """Two folders cannot be swapped in one step, as on other systems than Linux."""
    monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *_, **__: object())


def test_a_bundle_that_was_put_aside_does_not_stop_the_next(tmp_path, monkeypatch):
    put_aside(monkeypatch)
    for name in ("b", ".b.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    with publish(tmp_path / "b") as folder:
        (folder / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["b", "b/new"]


def test_a_rename_that_fails_puts_the_old_bundle_back(tmp_path, monkeypatch):
    put_aside(monkeypatch)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    whole = Path.rename

    def rename(path, target):
        if path == partial_folder(tmp_path / "b"):
            fail(errno.EIO)()
        return whole(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"), publish(tmp_path / "b") as folder:
        (folder / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["b", "b/old"]


@pytest.mark.parametrize("name", ["leftover", JOURNAL_NAME, WEIGHTS_NAME])
@pytest.mark.parametrize("force", [True, False])
def test_folders_in_the_partial_folder_are_removed(tmp_path, name, force):
    (tmp_path / name / "deeper").mkdir(parents=True)
    with Journal(tmp_path, RECIPE, resume=False, force=force):
        assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_NAME]


@pytest.mark.parametrize("line", ["5", "null", '{"moedge": 5}', "[" * 100_000, '"x"'])
def test_a_journal_of_nonsense_is_refused_in_a_sentence(tmp_path, line):
    (tmp_path / JOURNAL_NAME).write_text(f"{line}\n{line}\n")
    with pytest.raises(UnfinishedError, match=r"is broken, so that nothing can be resumed.*\.$"):
        Journal(tmp_path, RECIPE, resume=True, force=False)


def test_weights_that_have_become_a_folder_or_a_link_are_not_resumed(tmp_path):
    for harm in (lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")):
        with Journal(tmp_path, RECIPE, resume=False, force=True) as journal:
            journal.add(Mark("embedding", 4, "0" * 64, []))
        harm(tmp_path / WEIGHTS_NAME)
        refused = pytest.raises(UnfinishedError, match="is not what the interrupted export has written")
        with refused, Journal(tmp_path, RECIPE, resume=True, force=False) as journal:
            WeightsFile(tmp_path, journal)


@pytest.mark.parametrize("call", ["ftruncate", "fsync"])
def test_a_journal_that_cannot_be_begun_is_closed(tmp_path, monkeypatch, call):
    before = open_files()
    monkeypatch.setattr(os, call, fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        Journal(tmp_path, RECIPE, resume=False, force=False)
    assert open_files() == before


def test_weights_that_cannot_be_checked_are_closed(tmp_path, monkeypatch):
    with Journal(tmp_path, RECIPE, resume=False, force=False) as journal:
        journal.add(Mark("embedding", 4, "0" * 64, []))
        before = open_files()
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", fail(errno.EIO))
            with pytest.raises(OSError, match="Input/output"):
                WeightsFile(tmp_path, journal)
        assert open_files() == before


def test_a_tensor_without_bytes_is_named(tmp_path):
    refused = pytest.raises(AssertionError, match=r"empty: a tensor \[0, 4\] has no bytes")
    with (
        Journal(tmp_path, RECIPE, resume=False, force=False) as journal,
        refused,
        WeightsFile(tmp_path, journal) as file,
    ):
        file.region("empty", ir.DataType.FLOAT, (0, 4)).write(np.zeros((0, 4), np.float32))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_shards_are_closed_whatever_ends_their_opening(tmp_path, monkeypatch, error):
    (tmp_path / "config.json").write_text("{}")
    shards = {"a": "1.safetensors", "b": "2.safetensors"}
    for name, shard in shards.items():
        save_file({name: np.ones(2, np.float32)}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )

    def opened(path):
        if path.name == shards["b"]:
            raise error
        return Shard(path)

    monkeypatch.setattr(checkpoint_folder, "Shard", opened)
    before = open_files()
    with pytest.raises(type(error)):
        Checkpoint(tmp_path)
    assert open_files() == before


def test_a_shard_that_cannot_be_opened_is_not_called_broken(tmp_path, monkeypatch):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(os, "open", fail(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        Shard(tmp_path / "a.safetensors")


def test_a_shard_whose_header_cannot_be_read_is_closed(tmp_path, monkeypatch):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "a.safetensors")
    before = open_files()
    monkeypatch.setattr(os, "pread", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        Shard(tmp_path / "a.safetensors")
    assert open_files() == before
