"""Timelines of models with recurrent layers: whatever was done to one, it goes on as a fresh one of the same tokens."""

import threading

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.batch import Batch, Share
from moedge.runtime.cache import Cache
from moedge.runtime.cache import states as kept
from moedge.runtime.kernels.library import find_library
from moedge.runtime.manifest import CacheTensor
from moedge.runtime.program import Interrupted

FAMILIES = ("qwen3_5_moe_text", "granitemoehybrid", "nemotron_h")
IDS = np.random.default_rng(0).integers(2, 211, 400).tolist()
OTHER = np.random.default_rng(1).integers(2, 211, 400).tolist()
CHUNK = 15  # tokens: as many at once give the same bits as one at a time in the native plan


@pytest.fixture(scope="module", params=[(family, plan) for family in FAMILIES for plan in ("if", "fused", "native")],
                ids="-".join)  # fmt: skip
def engine(request, tmp_path_factory):
    family, plan = request.param
    if plan == "native" and find_library() is None:
        pytest.skip("moedge's kernel library is not built here")
    folder = tmp_path_factory.mktemp(family)
    tiny.save_checkpoint(tiny_families.quantizable(family), folder / "checkpoint", 0)
    schemes = parse_plan("fp32" if plan == "if" else "int4")
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(schemes, plan))
    return Engine.load(folder / "bundle", sessions=3)


def feed(session, tokens):
    """Tokens in runs of at most CHUNK; the logits after the last."""
    for start in range(0, len(tokens), CHUNK):
        logits = session.run(tokens[start : start + CHUNK]).copy()
    return logits


def same(engine, session):
    """That the session goes on as a fresh one does: bits in the native plan, rounding in the others."""
    fresh = engine.session()
    feed(fresh, session.tokens)
    found, expected = session.run([7]).copy(), fresh.run([7]).copy()
    fresh.close()
    if engine.program.batches:
        np.testing.assert_array_equal(found, expected)
    else:
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < (1e-4 if engine.manifest.scheme == "fp32" else 0.05)


WAYS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 40)),
        st.tuples(st.just("decode"), st.integers(1, 6)),
        st.tuples(st.just("back"), st.integers(0, 100)),
        st.tuples(st.just("fork"), st.booleans()),
        st.tuples(st.just("interrupt"), st.integers(1, 20)),
        st.tuples(st.just("resume"), st.integers(0, 100)),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ways=WAYS)
def test_whatever_was_done_it_goes_on_as_a_fresh_one(engine, ways):
    session, opened = engine.session(), []
    opened.append(session)
    feed(session, IDS[:20])
    for number, (what, how) in enumerate(ways):
        tokens = OTHER[10 * number :]
        if what == "feed":
            feed(session, tokens[:how])
        elif what == "decode":
            for token in tokens[:how]:
                session.run([token])
        elif what == "back":
            session.rollback(session.cache.reachable(session.length * how // 100))
        elif what == "fork":
            other = session.fork()
            opened.append(other)
            feed(session, OTHER[200:203])  # what the one goes on with is not the other's
            if how:
                session = other
        elif what == "interrupt":
            session.interrupt()
            with pytest.raises(Interrupted):
                session.run(tokens[:how])
        elif what == "resume":
            wanted = [*session.tokens[: session.length * how // 100], 5, 6]
            feed(session, session.resume(wanted))
            assert session.tokens == wanted
        for idle in [one for one in opened if one is not session][1:]:  # the arena has room for three
            idle.close()
            opened.remove(idle)
    if session.length:
        same(engine, session)
    for one in opened:
        one.close()


def test_a_length_whose_state_is_gone_is_refused(engine):
    session = engine.session()
    feed(session, IDS[:30])
    for token in IDS[30:40]:
        session.run([token])
    with pytest.raises(MoedgeError, match="cannot roll back to 35 tokens: this model keeps its state at 30, go there"):
        session.rollback(35)
    assert session.length == 40
    same(engine, session)


def test_the_next_prompt_of_a_conversation_begins_where_the_last_one_was_cut(engine):
    """Templates write an answer's opening anew: what agrees ends shortly before the last prompt's end."""
    session = engine.session()
    session.prefill(IDS[:150])
    for token in IDS[150:160]:
        session.decode(token)
    rest = session.resume([*IDS[:148], *OTHER[:30]])
    assert 96 <= session.length <= 148
    assert len(rest) == 178 - session.length
    feed(session, rest)
    same(engine, session)


def test_guesses_are_refused(engine):
    with pytest.raises(MoedgeError, match="recurrent layers, whose state cannot go back over wrong guesses"):
        engine.generate(IDS[:5], SamplingParams(prompt_lookup_num_tokens=4))


def test_timelines_run_together(engine):
    if not engine.program.batches:
        pytest.skip("only the native plan runs timelines together")
    sessions, batch = [engine.session() for _ in range(3)], Batch(engine.program)
    for number, session in enumerate(sessions):
        feed(session, IDS[number : 10 * (number + 1)])
    alone = [session.tokens[:] for session in sessions]
    for step in range(4):
        found = batch.run([Share(session, OTHER[step : step + 1 + n], 1) for n, session in enumerate(sessions)])
        for n, tokens in enumerate(alone):
            tokens += OTHER[step : step + 1 + n]
    sessions[1].rollback(sessions[1].cache.reachable(sessions[1].length - 1))
    feed(sessions[1], alone[1][sessions[1].length :])
    logits = [row[0].copy() for row in found]
    for number, session in enumerate(sessions):
        assert session.tokens == alone[number]
        session.close()
    for number, tokens in enumerate(alone):
        fresh = engine.session()
        np.testing.assert_array_equal(feed(fresh, tokens), logits[number])
        fresh.close()


def test_interrupted_from_another_thread(engine):
    session = engine.session()
    feed(session, IDS[:40])
    timer = threading.Timer(0.01, session.interrupt)
    timer.start()
    try:
        while True:
            session.run(IDS[:CHUNK])
            if session.length > 300:
                session.rollback(session.cache.reachable(45))
    except Interrupted:
        pass
    timer.join()
    same(engine, session)


STATE = CacheTensor("past", "present", "state", (4, 8))


def cache_of(*tensors):
    return Cache(tensors, 4096, "float32")


def passes(cache, *lengths):
    past = 0
    for length in lengths:
        cache.turn(past, length - past)
        cache.trim(length)
        past = length


def reached(cache, newest):
    return sorted({cache.reachable(length) for length in range(newest + 1)})


def test_single_tokens_leave_a_state_at_every_step():
    cache = cache_of(STATE)
    passes(cache, 100, 200, *range(201, 1000))
    assert reached(cache, 999) == [0, 100, 200, 256, 512, 768, 999]


def test_of_many_states_those_are_kept_that_lie_apart_and_near_the_end(monkeypatch):
    monkeypatch.setattr(kept, "SNAPSHOT_BYTES", 4 * 8 * 4 * 4)
    assert kept.count_states([STATE]) == 2 + 4
    cache = cache_of(STATE)
    passes(cache, *range(512, 8192, 512), 8160, 8192)
    lengths = reached(cache, 8192)
    assert len(lengths) == 6  # that of no token, four, and the newest
    assert lengths[-2:] == [8160, 8192]
    gaps = np.diff(lengths[1:])
    assert np.all(gaps[:-1] >= gaps[1:])


def test_large_states_still_leave_two_to_go_back_to(monkeypatch):
    monkeypatch.setattr(kept, "SNAPSHOT_BYTES", 1)
    cache = cache_of(STATE)
    passes(cache, 64, 128, 192, 256)
    assert len(reached(cache, 256)) == 1 + 2 + 1
    assert cache.nbytes(256) == 4 * (4 * 8 * 4)


def test_a_run_that_failed_leaves_its_room():
    cache = cache_of(STATE)
    passes(cache, 64)
    for _ in range(50):
        read, written = cache.turn(64, 3)
    cache.trim(64)  # a rollback to where it is
    assert cache.turn(64, 1) == (read, written)
    assert cache.reachable(70) == 64
