"""Responses over a socket: what is sent while nothing is said, and what happens when their clients leave."""

import json
import time

import pytest
from fake_engine import FakeEngine
from live_server import get, leave, wait_for

from moedge.edge_server import replies

PATH = "/v1/responses"


def test_a_stream_begins_before_the_first_token(run, ask):
    engine = FakeEngine()
    engine.gate.clear()
    response = ask(run(engine).port, {"input": "hi", "stream": True}, PATH).getresponse()
    assert response.getheader("Content-Type").startswith("text/event-stream")
    assert response.readline() == b"event: response.created\n"
    engine.gate.set()
    assert b"event: response.completed\n" in response.read()


def test_a_long_silence_is_filled_with_comments(run, ask, monkeypatch):
    monkeypatch.setattr(replies, "KEEP_ALIVE_SECONDS", 0.1)
    engine = FakeEngine()
    engine.gate.clear()
    response = ask(run(engine).port, {"input": "hi", "stream": True}, PATH).getresponse()
    line = response.readline()
    while line != replies.KEEP_ALIVE.rstrip(b"\n") + b"\n":
        line = response.readline()
    engine.gate.set()
    assert b"event: response.completed\n" in response.read()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_frees_its_place(run, ask, stream):
    engine = FakeEngine(lambda prompt: ["slow "] * 2000, step_seconds=0.02)
    running = run(engine, 1, 0)
    connection = ask(running.port, {"input": "hi", "stream": stream}, PATH)
    wait_for(lambda: len(engine.log) > 3)
    leave(connection)
    wait_for(lambda: running.service.idle)
    engine.step_seconds = 0.0
    assert ask(running.port, {"input": "hi", "max_output_tokens": 2}, PATH).getresponse().status == 200


def test_a_full_queue_is_told_before_anything_is_said(run, ask):
    engine = FakeEngine()
    engine.gate.clear()
    running = run(engine, 1, 0)
    first = ask(running.port, {"input": "hi", "stream": True}, PATH)
    first.getresponse()
    wait_for(lambda: len(engine.log) > 0)
    begun = time.monotonic()
    response = ask(running.port, {"input": "more", "stream": True}, PATH).getresponse()
    error = json.loads(response.read())["error"]
    assert (response.status, error["code"]) == (429, "queue_full")
    assert int(response.getheader("Retry-After")) > 0
    assert time.monotonic() - begun < 5
    engine.gate.set()


def test_a_response_can_be_followed_as_soon_as_its_last_event_is_read(run, ask):
    running = run(FakeEngine())
    response = ask(running.port, {"input": "hi", "stream": True}, PATH).getresponse()
    line = b""
    while not line.startswith(b'data: {"type":"response.completed"'):
        line = response.readline()
    made = json.loads(line.removeprefix(b"data: "))["response"]
    assert get(running.port, f"{PATH}/{made['id']}") == (200, made)
