"""A shared cache that is read through a window: what it gives back, and that what it can still go back to is right."""

import numpy as np
import psutil
import pytest
import tiny_families
import tiny_models as tiny

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.cache import Cache
from moedge.runtime.cache.eviction import WINDOW_HISTORY, WINDOW_STEP
from moedge.runtime.manifest import CacheTensor

LENGTH = WINDOW_HISTORY + 3 * WINDOW_STEP + 10
IDS = np.random.default_rng(0).integers(2, 211, LENGTH + 40).tolist()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mellum")
    # a row is an eighth of a page
    config = tiny_families.quantizable("mellum", head_dim=128, max_position_embeddings=4096, sliding_window=48)
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("int4"), "fused"))
    return Engine.load(folder / "bundle")


def test_windows_of_layers_are_in_the_manifest(engine):
    assert {(tensor.layout, tensor.window) for tensor in engine.manifest.cache} == {("shared", 48), ("shared", 0)}


@pytest.mark.parametrize("length", [0, WINDOW_STEP, 2 * WINDOW_STEP, LENGTH - WINDOW_HISTORY, LENGTH - 3])
def test_what_is_reachable_goes_on_exactly(engine, length):
    session = engine.session()
    session.prefill(IDS[:LENGTH])
    assert session.cache.reachable(length) == length
    for timeline in (session.fork(), session):
        timeline.rollback(length)
        found, expected = timeline.prefill(IDS[length : length + 7]), engine.session().prefill(IDS[: length + 7])
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()  # a prompt is multiplied otherwise


def test_old_rows_take_no_memory():
    tensor = CacheTensor("past", "present", "shared", (4, 128), 64)
    cache, process = Cache((tensor,), 1 << 16, "float32"), psutil.Process()
    before = process.memory_info().rss
    [buffer] = cache._buffers
    for length in range(0, 1 << 16, 512):
        buffer._array[:, :, length : length + 512] = 1.0  # as a run writes them
        cache.trim(length + 512)
    taken = process.memory_info().rss - before
    assert taken < 1.2 * cache.nbytes(1 << 16) + (1 << 20)
    assert cache.nbytes(1 << 16) < 0.35 * (1 << 16) * 4 * 128 * 4
