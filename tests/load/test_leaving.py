"""Clients that leave: how soon their place is free, by looking into the server, which runs in this process for that."""

import json
import socket
import time

import psutil
import pytest
from asynchronous import request_bytes
from live_server import Running
from served import percentile

from moedge.runtime import Engine

TIMES = 100


@pytest.fixture(scope="module")
def running(bundle):
    running = Running(Engine.load(bundle, sessions=1), max_running=1, max_queued=2, drain_seconds=5.0)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def ends(bundle):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    return {str(token): -100 for token in manifest["model"]["eos_token_ids"]}


def wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.0005)


class Client:
    """A stream that was asked for."""

    def __init__(self, port, ends, prompt, tokens=3000):
        body = {"prompt": prompt, "max_tokens": tokens, "logit_bias": ends, "stream": True}
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request_bytes("POST", "/v1/completions", body))

    def reads(self):
        return b"data: {" in self.socket.recv(65536)

    def leave(self):
        self.socket.close()
        return time.perf_counter()


def test_leaving_the_queue(running, ends, row):
    scheduler, found = running.service.loaded.scheduler, []
    for _ in range(TIMES // 25):
        holds = Client(running.port, ends, "hold")
        wait(lambda: scheduler._running)
        for _ in range(25):
            client = Client(running.port, ends, "queued")
            wait(lambda: scheduler._queue)
            began = client.leave()
            wait(lambda: not scheduler._queue)
            found.append(1000 * (time.perf_counter() - began))
        holds.leave()
        wait(lambda: scheduler.idle)
    tell(row, "queued", found, 0.0, "≤ 50 ms")


def test_leaving_while_the_prompt_is_read(running, ends, row):
    """A chunk of the prompt is many operators; the slowest of them is not known here, so a chunk's time is told."""
    scheduler, found, engine = running.service.loaded.scheduler, [], running.engine
    session = engine.session()
    began = time.perf_counter()
    session.append(list(range(5, 5 + 512)))
    chunk_ms = 1000 * (time.perf_counter() - began)
    session.close()
    for number in range(TIMES):
        client = Client(running.port, ends, [5 + (number * 7 + i * 11) % 900 for i in range(3900)])
        wait(lambda: scheduler._stepping)
        time.sleep(0.002 * (number % 10))
        began = client.leave()
        wait(lambda: scheduler.idle)
        found.append(1000 * (time.perf_counter() - began))
    tell(row, "prefill", found, 0.0, "≤ slowest operator + 50 ms", f"; a chunk of 512 tokens takes {chunk_ms:.0f} ms")


def test_leaving_while_the_answer_is_written(running, ends, row):
    scheduler, found, gone = running.service.loaded.scheduler, [], psutil.Process()
    for _ in range(10):
        leave_once(running, ends, scheduler)
    before = gone.memory_full_info().uss
    for _ in range(TIMES):
        found.append(leave_once(running, ends, scheduler))
    grown = (gone.memory_full_info().uss - before) / (1 << 20)
    tell(row, "decode", found, 2.0, "≤ one step + 50 ms, memory back to the baseline", f"; memory {grown:+.1f} MiB")
    assert grown < 8


def leave_once(running, ends, scheduler):
    client = Client(running.port, ends, "turn on the light")
    while not client.reads():
        pass
    began = client.leave()
    wait(lambda: scheduler.idle)
    return 1000 * (time.perf_counter() - began)


def tell(row, phase, found, extra, target, more=""):
    worst = max(found)
    row(
        f"client leaves: {phase}",
        f"{len(found)} times",
        target,
        f"place free after p50 {percentile(found, 0.5):.0f} ms,"
        f" p99 {percentile(found, 0.99):.0f} ms, at most {worst:.0f} ms{more}",
        worst <= 50 + extra,
    )
