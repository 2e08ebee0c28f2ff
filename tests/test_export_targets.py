"""Where no bundle can be made: it is said before anything is written, and before anything is asked of the hub."""

import os
from pathlib import Path

import pytest
from test_export_writing import RECIPE, open_files

from moedge.devices.errors import MoedgeError
from moedge.export.writing.journal import Journal, Mark
from moedge.export.writing.publish import partial_folder, publish, refuse_impossible
from moedge.runtime.cli import main


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("file/bundle", r"file/bundle cannot be made \(Not a directory\): choose another name\."),
        (f"{'n' * 250}", r"cannot be made \(File name too long\): choose another name\."),
        ("circle/bundle", r"circle/bundle cannot be made \(its links lead in a circle\): choose another name\."),
        ("taken", r"\.taken\.partial is in the way, where .*taken is made: move it away"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_anything_is_written(target, said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / ".taken.partial").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MoedgeError, match=said):
        refuse_impossible(tmp_path / target)
    with pytest.raises(MoedgeError, match=said), publish(tmp_path / target):
        pytest.fail("nothing may be written")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    """As root may write everywhere, the system's answer is given here."""
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode & os.W_OK))
    with pytest.raises(MoedgeError, match=rf"b/c cannot be made, as {tmp_path} may not be written to"):
        refuse_impossible(tmp_path / "b" / "c")


def test_a_target_that_can_be_is_not_touched(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere" / "b")
    before, files = sorted(tmp_path.rglob("*")), open_files()
    for target in ("b", "b/c/d", "link/b", "dangling", "folder"):
        refuse_impossible(tmp_path / target)
    assert (sorted(tmp_path.rglob("*")), open_files()) == (before, files)


def test_a_link_to_another_disk_is_no_mount_point(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "link")
    refuse_impossible(tmp_path / "link")


def test_another_export_is_seen_before_anything_is_written(tmp_path):
    with publish(tmp_path / "b"), pytest.raises(MoedgeError, match="another export is writing"):
        refuse_impossible(tmp_path / "b")
    assert (tmp_path / "b").is_dir()


def ask(tmp_path, capfd, *options):
    """What an export from the hub to tmp_path / "bundle" says when it is refused."""
    assert main(["export", "hf://org/tiny", "-o", str(tmp_path / "bundle"), *options]) == 1
    return capfd.readouterr().err


def test_nothing_is_asked_of_the_hub_for_a_target_that_cannot_be(hub, tmp_path, monkeypatch, capfd):
    (tmp_path / "bundle").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_mount", lambda path: path == tmp_path / "bundle")
        assert "is a mount point" in ask(tmp_path, capfd, "--force")
    (tmp_path / "bundle").rmdir()
    partial_folder(tmp_path / "bundle").touch()
    assert "is in the way" in ask(tmp_path, capfd)
    assert hub.log == []


def test_nothing_is_asked_of_the_hub_where_an_export_is_unfinished(hub, tmp_path, capfd):
    """Until somebody says what is to become of it."""
    folder = partial_folder(tmp_path / "bundle")
    folder.mkdir()
    with Journal(folder, RECIPE, False, False) as journal:
        journal.add(Mark("layer 3", 10, "0", []))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = ask(tmp_path, capfd)
    assert "finished as far as layer 3" in said
    assert "--resume to go on, or with --force to begin anew." in said
    assert hub.log == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
