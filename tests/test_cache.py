import errno
import mmap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from cache_views import past_of
from tiny_bundle import WIDTH, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache import Cache
from moedge.runtime.cache.reservation import NoRoom, reserve
from moedge.runtime.cache.shared import SharedBuffer
from moedge.runtime.engine import Engine
from moedge.runtime.manifest import CacheTensor

LAYOUTS = ["rows", "shared"]
PAST = {"rows": "past_key_values.0.latent", "shared": "past_key_values.0.key"}


def load(folder: Path, layout: str, context_length: int = 64) -> Engine:
    return Engine.load(write_tiny_bundle(folder, layout=layout, context_length=context_length), "auto")


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_reserved_memory_is_zero_and_writable():
    array = reserve((3, 5))
    assert array.shape == (3, 5)
    assert not array.any()
    array[2, 4] = 1
    assert array.sum() == 1


def test_an_impossible_reservation_is_one_sentence():
    with pytest.raises(NoRoom, match=r"cannot reserve .* GB of address space"):
        Cache((CacheTensor("p", "q", "rows", (576,)),), 2**48, "float32")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="flags of mappings are told by Linux only")
def test_a_buffer_asks_for_no_huge_pages():
    array, (low, high) = reserve((1 << 20,)), (0, 0)
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first:
            low, high = (int(end, 16) for end in first.split("-"))
        if first == "VmFlags:" and low <= array.ctypes.data < high:
            assert "nh" in rest
            return
    pytest.fail("the buffer is no mapping of this process")


def test_a_kernel_without_huge_pages_refuses_the_advice_and_not_the_buffer(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *advice):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert reserve((3, 5)).shape == (3, 5)


class Snapshots:
    """A layout as a recurrent state would be: a rollback goes to every `shape[0]`-th token only."""

    def __init__(self, tensor: CacheTensor, capacity: int) -> None:
        self.every, self.length, self.moves = tensor.shape[0], 0, True

    def bind(self, binding, past: int, new: int) -> None:
        binding.bind_input("state", "cpu", 0, np.float32, (past,), 0)

    def reachable(self, length: int) -> int:
        return length if length == self.length else length - length % self.every

    def trim(self, length: int) -> None:
        self.length = length

    def copy(self, other: "Snapshots", length: int) -> None:
        self.length = other.length


def test_the_cache_goes_where_every_buffer_can_go(monkeypatch):
    def open_one(tensor, capacity, arena, slot):
        return (Snapshots if len(tensor.shape) == 1 else SharedBuffer)(tensor, capacity)

    monkeypatch.setattr("moedge.runtime.cache.cache.open_buffer", open_one)
    cache = Cache(tuple(CacheTensor("p", "q", "rows", shape) for shape in ((6,), (4,), (2, 8))), 64, "float32")
    cache.trim(50)
    assert [cache.reachable(length) for length in (50, 49, 25, 24, 23, 11, 0)] == [50, 48, 24, 24, 12, 0, 0]
    other = Cache(cache._tensors, 64, "float32")
    assert other.reachable(50) == 48
    other.copy_from(cache, 50)
    assert other.reachable(50) == 50


def test_a_cache_of_nothing_goes_anywhere():
    assert Cache((), 64, "float32").reachable(17) == 17


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_past_is_a_view_of_one_buffer_at_every_step(tmp_path, layout):
    session = load(tmp_path, layout).session()
    session.prefill([1, 2, 3])
    first = past_of(session.cache, PAST[layout], 3)
    session.decode(4)
    later = past_of(session.cache, PAST[layout], 4)
    assert np.shares_memory(first, later)
    assert first.ctypes.data == later.ctypes.data


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_graph_reads_and_writes_our_memory(tmp_path, layout):
    engine = load(tmp_path, layout)
    session, twin = engine.session(), engine.session()
    session.prefill([1, 2, 3])
    twin.prefill([1, 2, 3])
    past = past_of(session.cache, PAST[layout], 3)
    assert past.any()  # the new rows arrived
    before = session.decode(4)
    session.rollback(3)
    np.testing.assert_array_equal(session.decode(4), before)
    session.rollback(3)
    past[:] = 0.5  # what is written here is what the next step sees
    assert np.abs(session.decode(4) - before).max() > 0.01
    np.testing.assert_array_equal(twin.decode(4), before)


def test_rows_hold_what_the_graph_gave(tmp_path):
    session = load(tmp_path, "rows").session()
    session.prefill([9, 8, 9])
    rows = past_of(session.cache, PAST["rows"], 3)[0]  # [3, width]
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows.shape == (3, WIDTH)
    assert session.cache_bytes == 3 * WIDTH * 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_follows_the_length_used_not_the_context(tmp_path, layout):
    steps = 40
    growth, seconds = {}, {}
    for context in (1_000, 1_000_000):  # at a million tokens the buffers span 64 MB and more
        engine = load(tmp_path / str(context), layout, context)
        warm = engine.session()
        warm.prefill(list(range(steps)))
        warm.decode(1)
        before, start = resident(), time.perf_counter()
        session = engine.session()
        seconds[context] = time.perf_counter() - start
        session.prefill(list(range(steps)))
        for token in range(steps):
            session.decode(token)
        growth[context] = resident() - before
        assert session.length == 2 * steps
    assert growth[1_000_000] < growth[1_000] + 2_000_000
    assert growth[1_000_000] < 4_000_000
    assert seconds[1_000_000] < 0.1  # reserving, not clearing


def test_the_mask_grows_by_doubling_and_ends_at_the_context(tmp_path):
    session = load(tmp_path, "rows", 700).session()
    lengths = []
    for _ in range(7):
        session.prefill([5] * 100)
        lengths.append(session._lane.feed.mask.shape[1])
    assert lengths == [256, 256, 600, 600, 600, 600, 700]
    with pytest.raises(MoedgeError, match="prompt has 701 tokens, the context is 700"):
        session.decode(5)
