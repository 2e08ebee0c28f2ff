"""The engine dies or hangs, numbers are none, the context ends, signals come: times of what tests/ proves."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from asynchronous import ask
from fake_engine import FakeEngine
from live_server import Running
from test_hostile_templates import BOMBS, TRY

CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_hostile_templates(row):
    done = subprocess.run(
        [sys.executable, "-c", TRY], input=json.dumps(BOMBS), capture_output=True, text=True, timeout=200
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(BOMBS)
    slowest, most = 1000 * max(seconds for *_, seconds in found), max(grown for _, grown, _ in found)
    over = sum(seconds > 0.1 for *_, seconds in found)
    row(
        "hostile template",
        f"{len(BOMBS)} that multiply, 28 that look for Python's insides",
        "no execution, render ≤ 100 ms and 1 MiB, or an error",
        f"{len(BOMBS)} of {len(BOMBS)} end in an error, after {slowest:.0f} ms of CPU at most"
        f" ({over} after more than 100 ms); memory grows by {most:.0f} MiB at most; nothing is executed",
        slowest <= 100,
    )


def test_an_engine_that_dies_or_hangs(row):
    died, hung = _until_told(dies=True), _until_told(dies=False)
    row(
        "engine thread raises or hangs",
        "injected; stall limit 1 s",
        "streams get an error event, /livez fails within 5 s",
        f"raises: error event and 503 after {died:.2f} s; hangs: {hung:.2f} s after the stall limit",
        max(died, hung) <= 5,
    )


class _Death(BaseException):
    pass


def _until_told(dies):
    def answer(prompt):
        if dies:
            raise _Death
        return ["word"]

    engine = FakeEngine(answer)
    running = Running(engine, 1, 1, 1.0)
    running.service.loaded.scheduler._stalled_after_s = 1.0
    if not dies:
        engine.gate.clear()
    began = time.monotonic()
    told = asyncio.run(ask(running.port, "/v1/chat/completions", CHAT))
    while asyncio.run(ask(running.port, "/livez")).status != 503:
        assert time.monotonic() - began < 20
    took = time.monotonic() - began
    assert b'"error"' in told.body
    engine.gate.set()
    running.stop()
    return took - (0 if dies else 1.0)


def test_signals(serve, row):
    """Once: what is open ends well. Twice: at once."""
    served = serve("--max-running", "2")
    stream = served.long(3000, stream=True)  # a second or more

    async def drain():
        task = asyncio.create_task(ask(served.port, "/v1/completions", stream))
        await asyncio.sleep(0.4)
        served.process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        await asyncio.sleep(0.05)
        refused = await ask(served.port, "/v1/completions", served.long(2))
        return await task, refused, began

    answer, refused, began = asyncio.run(drain())
    assert b"data: [DONE]" in answer.body
    assert refused.status == 503
    assert "retry-after" in refused.headers
    assert served.process.wait(30) == 0
    drained = time.perf_counter() - began
    other = serve("--max-running", "2")

    async def twice():
        task = asyncio.create_task(ask(other.port, "/v1/completions", other.long(3000, stream=True)))
        await asyncio.sleep(0.4)
        other.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        other.process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        other.process.wait(30)
        took = time.perf_counter() - began
        await task
        return took

    at_once = asyncio.run(twice())
    row(
        "SIGTERM once, twice",
        "in mid-stream",
        "streams finish, others get 503 with Retry-After, exit 0; a second ends within 1 s",
        f"the stream is whole, exit 0 after {drained:.1f} s; a second ends after {1000 * at_once:.0f} ms",
        at_once <= 1.0,
    )


def test_the_rest_is_proved_by_the_quick_tests(row):
    """Run here, so that no row of the table is without a figure."""
    tests = Path(__file__).parents[1]
    words = "no_number or end_of_the_context or clock"
    files = [str(tests / f"test_hostile_{name}.py") for name in ("engines", "sockets")]
    command = [sys.executable, "-m", "pytest", "-q", *files, "-k", words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tests.parent)
    assert done.returncode == 0, done.stdout[-2000:]
    where = "tests/test_hostile_engines.py, a poisoned weight"
    row(
        "NaN logits",
        where,
        "that request fails `internal_error`; others bit-identical",
        "holds, streamed and whole",
        True,
    )
    row("context limit", where.split(",")[0], "400 before prefill; at the limit `length`", "holds at n−1, n, n+1", True)
    where = "tests/test_hostile_sockets.py, a day forwards and backwards"
    row("the clock jumps", where, "streams go on, slow headers are still cut", "holds", True)
