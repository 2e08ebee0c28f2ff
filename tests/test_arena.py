"""Arenas of caches: who has which slot, what one timeline's changes leave of another's, and what comes back."""

import gc

import numpy as np
import psutil
import pytest
from cache_views import Recorder

from moedge.devices.errors import MoedgeError
from moedge.runtime.cache import Arena, Cache
from moedge.runtime.cache.eviction import WINDOW_HISTORY
from moedge.runtime.manifest import CacheTensor

KEY = CacheTensor("past.0.key", "present.0.key", "native", (2, 64))
WINDOW = CacheTensor("past.1.key", "present.1.key", "native", (2, 1024), window=100)
LATENT = CacheTensor("past.2.latent", "present.2.latent", "native", (1, 40), exact=True)
TENSORS = (KEY, WINDOW, LATENT)


def opened(slots, capacity=1000):
    arena = Arena(TENSORS, capacity, "float32", slots)
    return arena, [Cache(TENSORS, capacity, "float32", arena) for _ in range(slots)]


def memories(arena):
    recorder = Recorder()
    arena.bind(recorder)
    return recorder.inputs


def test_a_graph_is_given_all_slots_whoever_runs():
    arena, caches = opened(3)
    assert sorted(cache.slot for cache in caches) == [0, 1, 2]
    whole = memories(arena)
    assert [array.shape[:2] for array in whole.values()] == [(3, 2), (3, 2), (3, 1)]
    for cache in caches:
        recorder = Recorder()
        cache.bind(recorder, 5, 1)
        for name, array in recorder.inputs.items():
            assert (array.ctypes.data, array.shape) == (whole[name].ctypes.data, whole[name].shape)
            assert recorder.outputs[name.replace("past", "present")].ctypes.data == array.ctypes.data


def test_a_slot_is_free_when_its_cache_is_dropped_or_closed():
    arena, caches = opened(2)
    assert arena.take() is None
    with pytest.raises(MoedgeError, match="all slots of these caches are taken"):
        Cache(TENSORS, 1000, "float32", arena)
    kept = caches.pop()
    slot = caches.pop().slot
    gc.collect()
    again = Cache(TENSORS, 1000, "float32", arena)
    assert again.slot == slot != kept.slot
    again.close()
    again.close()
    other = Cache(TENSORS, 1000, "float32", arena)
    del again
    gc.collect()
    assert other.slot == slot
    assert not arena.free


def test_a_dropped_slot_gives_its_memory_back_and_leaves_the_others():
    arena, (one, two) = opened(2, 8000)
    whole = memories(arena)
    before = psutil.Process().memory_info().rss
    for array in whole.values():
        array[:] = 1
    grown = psutil.Process().memory_info().rss - before
    slot, other = one.slot, two.slot
    del one
    gc.collect()
    left = psutil.Process().memory_info().rss - before
    assert grown > 120 << 20
    assert left < 0.6 * grown
    for array in whole.values():
        assert not array[slot].any()
        assert array[other].all()


def test_windows_are_given_back_in_their_slot_alone():
    arena, caches = opened(3)
    rows = memories(arena)["past.1.key"][..., 0]  # [slots, heads, capacity]
    rows[:] = 1
    caches[1].trim(WINDOW_HISTORY + 400)
    gone = np.zeros(rows.shape, bool)
    gone[caches[1].slot, :, : 400 - 100] = True
    assert ((rows == 0) == gone).all()
    assert [cache.reachable(399) for cache in caches] == [399, 0, 399]


@pytest.mark.parametrize("same", [True, False], ids=["one arena", "two arenas"])
def test_a_copy_fills_its_own_slot(same):
    arena, (one, two) = opened(2)
    elsewhere, (three, _) = opened(2)
    target, place = (two, arena) if same else (three, elsewhere)
    for array in memories(arena).values():
        array[one.slot, :, :30] = np.random.default_rng(0).integers(1, 255, array[one.slot, :, :30].shape)
    target.copy_from(one, 20)
    for name, array in memories(place).items():
        found, said = array[target.slot], memories(arena)[name][one.slot]
        assert (found[:, :20] == said[:, :20]).all()
        assert not found[:, 20:].any()
