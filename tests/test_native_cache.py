"""Caches of layout `native`: what their rows hold and cost, what they give back, and that they are bound once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from cache_views import Recorder, resident
from native import needs_kernels

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import load_profile
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.cache import Cache
from moedge.runtime.cache.eviction import WINDOW_HISTORY, step_of
from moedge.runtime.cache.native_buffer import NativeBuffer, NativeMemory, row_bytes
from moedge.runtime.feed import Segment, SegmentFeed
from moedge.runtime.manifest import CacheTensor

TYPES = ("float32", "float16", "int8")


def tensor_of(heads, width, window=0, exact=False):
    return CacheTensor("past", "present", "native", (heads, width), window, exact)


def test_the_length_of_a_row_tells_what_it_holds():
    assert [row_bytes(tensor_of(2, 80), wish) for wish in TYPES] == [320, 160, 80 + 3 * 4]
    assert [row_bytes(tensor_of(2, 33), wish) for wish in TYPES] == [132, 66, 36 + 2 * 4]
    assert [row_bytes(tensor_of(2, 80, exact=True), wish) for wish in TYPES] == [320] * 3


@pytest.mark.parametrize("wish", TYPES)
def test_one_buffer_is_bound_in_and_out_and_once(wish):
    cache, recorder = Cache((tensor_of(3, 40), CacheTensor("p", "q", "rows", (8,))), 100, wish), Recorder()
    cache.bind(recorder, 0, 5)
    assert set(recorder.inputs) == {"past", "p"}
    past = recorder.inputs["past"]
    assert past.ctypes.data == recorder.outputs["present"].ctypes.data
    assert past.shape[:2] == (1, 3)
    assert past.shape[2] >= 100
    assert past.shape[3] == row_bytes(tensor_of(3, 40), wish)
    recorder.inputs.clear()
    cache.bind(recorder, 5, 1)
    assert set(recorder.inputs) == {"p"}  # rows move with the past
    other = Recorder()
    cache.bind(other, 5, 1)
    assert set(other.inputs) == {"past", "p"}


def rows_of(buffer):
    recorder = Recorder()
    buffer.bind(recorder, 0, 1)
    (memory,) = recorder.inputs.values()
    return memory[0]


def test_a_window_gives_back_what_no_rollback_reads():
    """Rows of a page each, so that every single one is seen to stay or to go."""
    window, length = 100, WINDOW_HISTORY + 3 * 400 + 50
    assert step_of(window) == 400
    buffer = NativeBuffer(NativeMemory(tensor_of(2, 1024, window), 4000, "float32", 1), 0)
    rows = rows_of(buffer)
    for start in range(0, length, 50):
        rows[:, start : start + 50] = 1
        buffer.trim(start + 50)
    held = rows[:, :, 0].astype(bool)
    kept = np.zeros(length, bool)
    for end in (400, 800, 1200):
        kept[end - window : end] = True
    kept[1200:] = True
    assert (held[:, :length] == kept).all()
    assert [buffer.reachable(n) for n in (length, 1201, 1200, 1199, 800, 401, 399, 0)] == [
        length, 1201, 1200, 800, 800, 400, 0, 0,
    ]  # fmt: skip
    other = NativeBuffer(NativeMemory(tensor_of(2, 1024, window), 4000, "float32", 1), 0)
    other.copy(buffer, length)
    assert (rows_of(other)[:, :length] == rows[:, :length]).all()
    assert other.reachable(1199) == 800
    buffer.trim(800)  # a rollback: from here on rows are written anew, and can be gone back to
    rows[:, 800:1400] = 1
    buffer.trim(1400)
    assert buffer.reachable(1399) == 1399
    assert rows[:, 700:1400, 0].all()


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="pages in memory are told by Linux only")
@pytest.mark.parametrize("wish", TYPES)
@pytest.mark.parametrize("window", [0, 96])
def test_what_it_says_to_take_it_takes(wish, window):
    tensor, length = tensor_of(8, 64, window), 60_000
    cache = Cache(tuple(replace(tensor, past=f"past.{i}") for i in range(4)), 100_000, wish)
    buffers = [rows_of(buffer) for buffer in cache._buffers]
    for start in range(0, length, 500):
        for rows in buffers:
            rows[:, start : start + 500] = 1
        cache.trim(start + 500)
    taken, told = sum(map(resident, buffers)), cache.nbytes(length)
    whole = 4 * length * 8 * row_bytes(tensor, wish)
    assert 0.5 * told < taken <= told
    assert told < 0.6 * whole if window else whole <= told < 1.01 * whole


def test_steps_of_one_token_bind_no_input_anew():
    feed, recorder = SegmentFeed(100), Recorder()
    feed.bind(recorder, [Segment(0, 0, [7, 8, 9], 2)])
    assert {name: array.shape for name, array in recorder.inputs.items()} == {
        "input_ids": (1, 3), "segments": (1, 3), "logits_rows": (2,),
    }  # fmt: skip
    assert [array.reshape(-1).tolist() for array in recorder.inputs.values()] == [[7, 8, 9], [0, 0, 3], [1, 2]]
    feed.bind(recorder, [Segment(0, 3, [4], 1)])
    found = dict(recorder.inputs)
    recorder.inputs.clear()
    feed.bind(recorder, [Segment(0, 4, [5], 1)])
    assert not recorder.inputs
    assert [array.reshape(-1).tolist() for array in found.values()] == [[5], [0, 4, 1], [0]]


LENGTH = WINDOW_HISTORY + 3 * step_of(12) + 10
BACK = (0, step_of(12), 2 * step_of(12), LENGTH - WINDOW_HISTORY, LENGTH - 3)
IDS = np.random.default_rng(0).integers(2, 211, LENGTH + 40).tolist()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """gpt-oss with a window of 12 in two layers of three; 64 rows of a head are a page at most."""
    folder = tmp_path_factory.mktemp("gpt_oss")
    config = tiny_families.small("gpt_oss", head_dim=32, max_position_embeddings=4096)
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("int8"), "native"))
    return folder / "bundle"


def prefill(session, *ends):
    """The tokens up to each of the ends, in pieces that end there."""
    for end in ends:
        if end > session.length:
            logits = session.prefill(IDS[session.length : end])
    return logits


@needs_kernels
@pytest.mark.parametrize("wish", TYPES)
def test_windows_go_on_to_the_bit_wherever_a_rollback_can_go(bundle, wish):
    engine = Engine.load(bundle, replace(load_profile("auto"), cache_type=wish))
    session = engine.session()
    prefill(session, *BACK, LENGTH)
    with pytest.raises(MoedgeError, match=f"keeps its state at {step_of(12)}"):
        session.rollback(step_of(12) + 1)
    for length in reversed(BACK):
        fresh, fork = engine.session(), session.fork()
        expected = prefill(fresh, *(end for end in BACK if end <= length), length + 7)
        for timeline in (fork, session):
            timeline.rollback(length)
            np.testing.assert_array_equal(prefill(timeline, length + 7), expected)


@needs_kernels
def test_the_profile_chooses_what_a_session_holds(bundle):
    profile, found = load_profile("auto"), {}
    for wish in TYPES:
        session = Engine.load(bundle, replace(profile, cache_type=wish)).session()
        found[wish] = session.prefill(IDS[:1]), session.cache_bytes, session.decode(IDS[1])
    heads, layers = 2, 3
    assert {wish: size for wish, (_, size, _) in found.items()} == dict.fromkeys(TYPES, 2 * heads * layers * 4096)
    float32, float16, int8 = (found[wish][2] for wish in TYPES)
    assert 0 < np.abs(float16 - float32).max() < 0.02 * np.abs(float32).max()
    assert 0 < np.abs(int8 - float32).max() < 0.1 * np.abs(float32).max()
