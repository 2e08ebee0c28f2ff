"""A cache that is read through a window: what it gives back, and that what it can still roll back to is right."""

import numpy as np
import psutil
import pytest
import tiny_families
import tiny_models as tiny
from cache_views import present_of

from moedge.devices.errors import MoedgeError
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
    folder = tmp_path_factory.mktemp("lfm2")
    # wide enough that a row fills a page and more
    config = tiny_families.small("lfm2_moe", hidden_size=1280, num_attention_heads=4, max_position_embeddings=4096)
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("fp32")))
    return Engine.load(folder / "bundle")


@pytest.fixture
def session(engine):
    session = engine.session()
    session.prefill(IDS[:LENGTH])
    return session


def expected(engine, length):
    return engine.session().prefill(IDS[:length])


@pytest.mark.parametrize("length", [0, WINDOW_STEP, 2 * WINDOW_STEP, LENGTH - WINDOW_HISTORY, LENGTH - 3])
def test_what_is_reachable_goes_on_exactly(engine, session, length):
    for timeline in (session.fork(), session):
        timeline.rollback(length)
        assert np.abs(timeline.prefill(IDS[length : length + 7]) - expected(engine, length + 7)).max() < 1e-4


@pytest.mark.parametrize("back", [WINDOW_STEP, LENGTH - 3])
def test_a_fork_after_a_rollback_has_all_that_was_computed_since(engine, session, back):
    session.rollback(back)
    session.prefill(IDS[back : back + 20])
    fork = session.fork()
    session.rollback(0)
    session.prefill(IDS[500:520])  # what the fork reads is its own
    end = back + 27
    assert np.abs(fork.prefill(IDS[back + 20 : end]) - expected(engine, end)).max() < 1e-4
    fork.rollback(back + 10)
    assert np.abs(fork.prefill(IDS[back + 10 : end]) - expected(engine, end)).max() < 1e-4


def test_old_windows_are_kept_at_every_step(engine, session):
    with pytest.raises(MoedgeError, match=f"keeps its state at {WINDOW_STEP}"):
        session.rollback(WINDOW_STEP + 1)
    assert session.length == LENGTH
    other = [*IDS[: WINDOW_STEP + 5], 3, 4]
    assert session.resume(other) == other[WINDOW_STEP:]
    assert np.abs(session.prefill(other[WINDOW_STEP:]) - engine.session().prefill(other)).max() < 1e-4


def test_memory_does_not_follow_the_length():
    tensor = CacheTensor("past", "present", "rows", (4096,), 2)
    cache = Cache((tensor,), 100_000, "float32")
    before = psutil.Process().memory_info().rss
    for start in range(0, 20_000, 100):
        present_of(cache, "present", start, 100)[:] = 1
        cache.trim(start + 100)
    grown = psutil.Process().memory_info().rss - before
    written, held = 20_000 * 4096 * 4, cache.nbytes(20_000)
    assert held < written / 20
    assert grown < held + written / 50
