"""How a scheduler ends: closing, draining, hangs and a dead thread, over an engine that is a script."""

import threading
import time
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine
from scheduling import PARAMS, PROMPT, SlowToBegin, failure_of, text_of, wait_for

from moedge.runtime.admission import NotAccepting


@pytest.fixture
def engine_threads():
    """The engine threads that live, those of earlier tests apart."""
    before = set(threading.enumerate())
    return lambda: [t for t in threading.enumerate() if t.name == "moedge-engine" and t not in before]


def test_close_ends_the_step_in_progress(start, engine_threads):
    engine = FakeEngine(step_seconds=20.0)
    scheduler = start(engine)
    scheduler.submit(PROMPT, PARAMS)
    wait_for(lambda: engine.log)
    assert engine_threads()
    scheduler.close()
    assert engine_threads() == []


def test_close_before_the_first_step_has_begun_does_no_work(start, engine_threads):
    engine = SlowToBegin(step_seconds=20.0)
    scheduler = start(engine)
    ticket = scheduler.submit(PROMPT, PARAMS)
    assert engine.begins.wait(5)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    wait_for(lambda: scheduler._closing)
    engine.may_begin.set()
    closing.join(5)
    assert engine_threads() == []
    assert engine.log == []
    assert isinstance(failure_of(ticket), NotAccepting)


def test_drain_finishes_what_was_accepted(start):
    engine = FakeEngine(step_seconds=0.005)
    scheduler = start(engine, max_running=1)
    tickets = [scheduler.submit([n], PARAMS) for n in range(3)]
    scheduler.stop_accepting()
    with pytest.raises(NotAccepting):
        scheduler.submit([4], PARAMS)
    assert [text_of(ticket) for ticket in tickets] == ["Hello!"] * 3
    wait_for(lambda: scheduler.idle)


def test_close_fails_what_is_left(start):
    engine = FakeEngine(lambda prompt: ["x"] * 100, step_seconds=20.0)
    scheduler = start(engine, max_running=1)
    tickets = [scheduler.submit([n], PARAMS) for n in range(2)]
    wait_for(lambda: engine.log)
    scheduler.close()
    assert [type(failure_of(ticket)) for ticket in tickets] == [NotAccepting] * 2


def test_hanging_step_is_not_healthy(start):
    engine = FakeEngine()
    engine.gate.clear()
    scheduler = start(engine, stalled_after_s=0.05)
    assert scheduler.healthy
    scheduler.submit(PROMPT, PARAMS)
    wait_for(lambda: not scheduler.healthy)
    engine.gate.set()
    wait_for(lambda: scheduler.healthy)


@pytest.mark.parametrize(("stalled_after_s", "healthy"), [(600, False), (601, True), (0, True)])
def test_how_long_a_step_may_take(start, monkeypatch, stalled_after_s, healthy):
    engine = FakeEngine()
    engine.gate.clear()
    scheduler = start(engine, stalled_after_s=stalled_after_s)
    scheduler.submit(PROMPT, PARAMS)
    wait_for(lambda: engine.log)
    later = time.monotonic() + 600.5
    with monkeypatch.context() as patch:
        patch.setattr("moedge.runtime.scheduler.time", SimpleNamespace(monotonic=lambda: later))
        assert scheduler.healthy == healthy
    engine.gate.set()


def test_dead_thread_fails_everyone_and_is_not_healthy(start, caplog):
    class Fatal(BaseException):
        pass

    engine = FakeEngine(step_seconds=0.01)
    engine.gate.clear()
    scheduler = start(engine, max_running=1)
    tickets = [scheduler.submit([n], PARAMS) for n in range(2)]
    engine.answer = lambda prompt: (_ for _ in ()).throw(Fatal())
    engine.gate.set()
    assert [type(failure_of(ticket)) for ticket in tickets] == [RuntimeError] * 2
    wait_for(lambda: not scheduler.healthy)
    with pytest.raises(NotAccepting):
        scheduler.submit([3], PARAMS)
