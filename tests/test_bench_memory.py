"""What `moedge bench` knows of the machine's memory: how fast it is read, how much is held, what came from storage."""

import numpy as np
import pytest
from native import needs_kernels
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime.bench import bandwidth
from moedge.runtime.bench.process_usage import Resident, forget_files, resident, storage_bytes
from moedge.runtime.kernels.library import open_library

MIB = 1 << 20


@needs_kernels
def test_the_reader_reads_everything():
    words = np.random.default_rng(0).integers(0, 1 << 62, 16 * 9, dtype=np.uint64)
    library = open_library()
    assert library.read(words) == int(words.sum(dtype=np.uint64))
    for place in (0, 15, 143):
        other = words.copy()
        other[place] += np.uint64(1)
        assert library.read(other) == (int(words.sum(dtype=np.uint64)) + 1) % 2**64
    for refused in (words[:-1], np.stack([words, words])[:, ::3]):
        with pytest.raises(ValueError, match="whole lines of 128"):
            library.read(refused)


def test_without_kernels_bandwidth_is_a_lower_bound_and_says_so(monkeypatch):
    def missing():
        raise MoedgeError("not built")

    monkeypatch.setattr(bandwidth, "open_library", missing)
    found = bandwidth.measure_bandwidth(2, MIB, 0, passes=2)
    assert "may be faster" in found.note
    assert 0 < found.bytes_per_s.low <= found.bytes_per_s.high


@pytest.mark.parametrize(
    ("available", "caches", "size"),
    [(8192, 32, 512), (1024, 32, 256), (8192, 256, 1024), (1024, 256, 512), (1024, 0, 256)],
)
def test_the_buffer_takes_a_share_of_what_is_free_but_more_than_the_caches_hold(monkeypatch, available, caches, size):
    monkeypatch.setattr(bandwidth, "MOST_BYTES", 512 * MIB)
    assert bandwidth.choose_buffer(available * MIB, caches * MIB) == size * MIB


def test_a_buffer_that_caches_hold_a_part_of_says_so():
    found = bandwidth.measure_bandwidth(2, MIB, MIB // 2, passes=2)
    assert "caches hold 50%" in found.note
    assert found.buffer_bytes == MIB
    assert "caches" not in bandwidth.measure_bandwidth(2, MIB, MIB // 4, passes=2).note


def test_the_last_caches_of_all_cpus_count_once_each(tmp_path):
    assert bandwidth.last_cache_bytes(tmp_path) == 0
    for cpu, shared in enumerate(("0-1", "0-1", "2-3", "2-3")):
        for level, size, cpus in (("2", "1024K", str(cpu)), ("3", "32768K", shared)):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index{level}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", cpus)):
                (folder / name).write_text(text + "\n")
    assert bandwidth.last_cache_bytes(tmp_path) == 64 * MIB


def test_memory_and_storage_are_read_from_the_system(tmp_path):
    (tmp_path / "status").write_text("Name:\tx\nRssAnon:\t  10 kB\nRssFile:\t 20 kB\nRssShmem:\t  1 kB\n")
    (tmp_path / "io").write_text("rchar: 5\nread_bytes: 4096\n")
    assert resident(tmp_path) == Resident(10 << 10, 21 << 10)
    assert storage_bytes(tmp_path) == 4096
    assert Resident(1, 20).most(Resident(10, 2)) == Resident(10, 20)
    assert (resident(tmp_path / "none"), storage_bytes(tmp_path / "none")) == (None, None)


def test_files_stay_as_they_are_when_they_are_dropped_from_memory(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "toy")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    forget_files(bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
