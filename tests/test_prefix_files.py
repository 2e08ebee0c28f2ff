"""Blocks on disk: what is written is read again, and nothing else is ever believed."""

import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scheduling import wait_for

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache.cache_blocks import CacheBlock
from moedge.runtime.prefixes.block_file import HEADER_BYTES
from moedge.runtime.prefixes.block_files import FOLDER, SPARE_SECONDS, BlockFiles
from moedge.runtime.prefixes.names import block_names, seed_of

SIZE = 1000
NAMES = block_names(seed_of(b"model", "somebody"), list(range(320)), 32)
FILE_BYTES = HEADER_BYTES + SIZE


def block_of(number, held=1):
    return CacheBlock(held, np.random.default_rng(number).integers(0, 256, SIZE * held.bit_count()).astype(np.uint8))


def nbytes_of(held):
    return SIZE * held.bit_count()


class Blocks(dict):
    """Blocks that are in memory, and files of them."""

    def open(self, folder, budget=1 << 20):
        return BlockFiles(folder, budget, self.get)

    def write(self, files, *numbers, held=1):
        for number in numbers:
            self[NAMES[number]] = block_of(number, held)
            files.write(NAMES[number], held)
            wait_for(lambda: not files.pending)


@pytest.fixture
def blocks():
    return Blocks()


@pytest.fixture
def files(tmp_path, blocks):
    files = blocks.open(tmp_path / "cache")
    blocks.write(files, 0, 1, 2)
    yield files
    files.close(5)


def paths(tmp_path):
    return sorted((tmp_path / "cache" / FOLDER).iterdir())


def path_of(tmp_path, number):
    return next(path for path in paths(tmp_path) if path.name.startswith(NAMES[number].hex()))


def assert_rejected(files, tmp_path, number=1):
    """The block is not used, its file is gone, and the others are as they were."""
    assert files.read(NAMES[number], nbytes_of) is None
    assert files.held(NAMES[number]) == 0
    assert not [path for path in paths(tmp_path) if path.name.startswith(NAMES[number].hex())]
    for other in {0, 1, 2} - {number}:
        assert np.array_equal(files.read(NAMES[other], nbytes_of).data, block_of(other).data)


def test_another_process_reads_what_one_has_written(files, tmp_path, blocks):
    again = Blocks().open(tmp_path / "cache")
    for number in range(3):
        found = again.read(NAMES[number], nbytes_of)
        assert (found.held, found.data.tolist()) == (1, block_of(number).data.tolist())
    assert again.held(NAMES[3]) == 0
    assert (again.count, again.nbytes) == (3, 3 * FILE_BYTES)
    again.close(5)


@pytest.mark.skipif(os.name != "posix", reason="modes and owners are of Unix")
def test_only_the_user_can_read_them(files, tmp_path):
    assert stat.S_IMODE((tmp_path / "cache" / FOLDER).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths(tmp_path)} == {0o600}


def test_every_flipped_bit_is_found(files, tmp_path, blocks):
    path = path_of(tmp_path, 1)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(HEADER_BYTES), *rng.integers(HEADER_BYTES, len(good), 60).tolist()]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        again = blocks.open(tmp_path / "cache")
        assert again.read(NAMES[1], nbytes_of) is None, place
        assert not path.exists()
        assert again.rejected == 1
        again.close(5)
    assert_rejected(files, tmp_path)


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, FILE_BYTES - 1])
def test_a_file_that_was_cut_off(files, tmp_path, length):
    with path_of(tmp_path, 1).open("r+b") as file:
        file.truncate(length)
    assert_rejected(files, tmp_path)


def test_a_file_that_has_grown(files, tmp_path):
    with path_of(tmp_path, 1).open("ab") as file:
        file.write(b"\0")
    assert_rejected(files, tmp_path)


def test_a_block_under_another_ones_name(files, tmp_path):
    path_of(tmp_path, 1).write_bytes(path_of(tmp_path, 2).read_bytes())
    assert_rejected(files, tmp_path)


def test_a_file_of_another_layout(files, tmp_path):
    assert files.read(NAMES[1], lambda held: SIZE + 4) is None
    assert_rejected(files, tmp_path)


def test_a_file_that_says_it_holds_more(files, tmp_path, blocks):
    path = path_of(tmp_path, 1)
    path.rename(path.with_name(path.name.replace("-1.", "-3.")))
    again = blocks.open(tmp_path / "cache")
    assert again.held(NAMES[1]) == 3
    assert again.read(NAMES[1], nbytes_of) is None
    assert len(paths(tmp_path)) == 2
    again.close(5)


@pytest.mark.skipif(os.name != "posix", reason="links are made as on Unix")
@pytest.mark.parametrize("link", ["symbolic", "hard", "pipe", "folder"])
def test_a_link_or_what_is_no_file(files, tmp_path, link):
    path, outside = path_of(tmp_path, 1), tmp_path / "outside"
    path.rename(outside)
    if link == "symbolic":
        path.symlink_to(outside)
    elif link == "hard":
        path.hardlink_to(outside)
    elif link == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        assert files.read(NAMES[1], nbytes_of) is None
        return
    assert_rejected(files, tmp_path)
    assert outside.read_bytes()[HEADER_BYTES:] == block_of(1).data.tobytes()  # what it led to is as it was


def test_a_file_that_another_process_has_deleted_is_no_fault(files, tmp_path):
    path_of(tmp_path, 1).unlink()
    assert_rejected(files, tmp_path)
    assert files.rejected == 0


def test_what_was_used_least_recently_goes_first(tmp_path, blocks):
    files = blocks.open(tmp_path / "cache", budget=3 * FILE_BYTES)
    blocks.write(files, 0, 1, 2)
    assert files.read(NAMES[0], nbytes_of) is not None
    blocks.write(files, 3)
    assert [bool(files.held(name)) for name in NAMES[:4]] == [True, False, True, True]
    assert (files.evictions, len(paths(tmp_path))) == (1, 3)
    files.close(5)
    times = [path_of(tmp_path, number).stat().st_mtime for number in (2, 0)]
    assert times[0] <= times[1]  # by which another process knows
    smaller = blocks.open(tmp_path / "cache", budget=FILE_BYTES)
    assert smaller.count == len(paths(tmp_path)) == 1
    smaller.close(5)


def test_a_block_that_holds_more_takes_the_place_of_one_with_less(files, tmp_path, blocks):
    blocks.write(files, 1, held=3)
    assert files.read(NAMES[1], nbytes_of).held == 3
    assert len(paths(tmp_path)) == 3
    blocks.write(files, 1, held=1)  # what it lacks is not forgotten
    assert files.held(NAMES[1]) == 3
    assert files.nbytes == 2 * FILE_BYTES + HEADER_BYTES + 2 * SIZE


def test_what_was_never_finished_is_deleted_once_it_is_old(files, tmp_path, blocks):
    old, new = (tmp_path / "cache" / FOLDER / f"{name}.part" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * SPARE_SECONDS,) * 2)
    blocks.open(tmp_path / "cache").close(5)
    assert (old.exists(), new.exists()) == (False, True)


def test_two_processes_on_one_folder(tmp_path):
    one, two = Blocks(), Blocks()
    first, second = one.open(tmp_path / "cache", 4 * FILE_BYTES), two.open(tmp_path / "cache", 4 * FILE_BYTES)
    for number in range(5):
        one.write(first, number)
        two.write(second, number)
    for name, number in zip(NAMES, range(5), strict=False):
        for files in (first, second):
            found = files.read(name, nbytes_of)
            assert found is None or np.array_equal(found.data, block_of(number).data)
    assert first.rejected == second.rejected == 0
    first.close(5)
    second.close(5)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="a folder's mode stops no superuser")
def test_a_folder_that_cannot_be_written(tmp_path, blocks):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(MoedgeError, match="name a folder that can be written"):
        blocks.open(tmp_path / "cache")


def test_a_file_in_the_place_of_the_folder(tmp_path, blocks):
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(MoedgeError, match="prefixes cannot be kept in"):
        blocks.open(tmp_path / "cache")


@pytest.mark.skipif(os.name != "posix", reason="links are made as on Unix")
def test_a_link_in_the_place_of_the_folder(tmp_path, blocks):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MoedgeError, match="is not a folder of this user's"):
        blocks.open(tmp_path / "cache")


def test_a_disk_that_fails_ends_writing_with_one_line(files, tmp_path, blocks, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("moedge.runtime.prefixes.block_file.os.open", full)
        for number in (3, 4, 5):
            blocks.write(files, number)
    assert [record.getMessage() for record in caplog.records] == [
        f"no more prefixes are kept in {tmp_path / 'cache' / FOLDER}: No space left on device"
    ]
    blocks.write(files, 6)  # it stays so
    assert files.held(NAMES[6]) == 0
    assert np.array_equal(files.read(NAMES[0], nbytes_of).data, block_of(0).data)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_prefix_files import Blocks, NAMES, nbytes_of
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
blocks = Blocks()
files = blocks.open(Path(sys.argv[1]))
blocks.write(files, 0, 1)
print(files.count, sorted(path.name for path in files._folder.iterdir()))
"""


@pytest.mark.skipif(os.name != "posix", reason="resource limits are of Unix")
def test_a_limit_on_the_size_of_files(tmp_path):
    words = [sys.executable, "-c", LIMITED, str(tmp_path / "cache"), str(Path(__file__).parent)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environ)
    assert done.stdout == "0 []\n"
    assert done.stderr.count("no more prefixes are kept in") == 1
