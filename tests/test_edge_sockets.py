"""The endpoint on real sockets: streams as they are made, clients that leave, waitress's own errors, SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from live_server import CHAT, get, leave, send, wait_for
from tiny_bundle import successors_of, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.edge_server.server import bind

SLOW = ["x"] * 500


def test_events_arrive_while_the_answer_is_made(run, ask):
    engine = FakeEngine()
    engine.gate.clear()
    response = ask(run(engine).port, {**CHAT, "stream": True}).getresponse()
    assert response.getheader("Content-Type").startswith("text/event-stream")
    assert b'"role":"assistant"' in response.readline()  # though not one step has ended
    engine.gate.set()
    assert response.read().endswith(b"data: [DONE]\n\n")


def test_whole_answer_keeps_the_connection(run, ask):
    connection = ask(run(FakeEngine()).port)
    assert json.loads(connection.getresponse().read())["choices"][0]["message"]["content"] == "Hello!"
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 200


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_client_that_leaves_frees_its_place(run, stream, phase, ask):
    chunk = 1 if phase == "prefill" else 4096
    engine = FakeEngine(lambda prompt: SLOW, step_seconds=0.02, chunk=chunk)
    running = run(engine, 1, 0)
    content = "x" * (3000 if phase == "prefill" else 1)
    connection = ask(running.port, {"messages": [{"role": "user", "content": content}], "stream": stream})
    wait_for(lambda: len(engine.log) > 3)
    engine.step_seconds = 10.0  # silence: nothing is written that could fail
    time.sleep(0.05)
    leave(connection)
    began = time.monotonic()
    wait_for(lambda: running.service.idle)
    assert time.monotonic() - began < 3.0
    engine.step_seconds = 0.0
    assert ask(running.port, {**CHAT, "max_tokens": 1}).getresponse().status == 200


def test_client_that_leaves_the_queue_frees_its_place(run, ask):
    engine = FakeEngine()
    engine.gate.clear()
    running = run(engine, 1, 1)
    first = ask(running.port)
    wait_for(lambda: engine.log)
    waiting = ask(running.port, {**CHAT, "stream": True}).getresponse()
    assert waiting.status == 200  # the head of a stream is sent once it is queued
    assert ask(running.port).getresponse().status == 429
    waiting.close()  # which hangs up
    third = []
    wait_for(lambda: third.append(ask(running.port, {**CHAT, "stream": True}).getresponse()) or third[-1].status == 200)
    engine.gate.set()
    assert first.getresponse().status == 200
    assert third[-1].read().endswith(b"data: [DONE]\n\n")


def test_probes_answer_while_every_place_is_taken(run, ask):
    engine = FakeEngine()
    engine.gate.clear()
    running = run(engine, 2, 4)
    connections = [ask(running.port, {**CHAT, "stream": True}) for _ in range(6)]
    wait_for(lambda: engine.log)
    assert get(running.port, "/livez")[0] == 200
    assert get(running.port, "/readyz")[0] == 200
    engine.gate.set()
    assert all(connection.getresponse().read().endswith(b"[DONE]\n\n") for connection in connections)


def test_drain_that_lasts_too_long_ends_streams_with_an_error(run, ask):
    running = run(FakeEngine(lambda prompt: SLOW, step_seconds=0.02), drain_seconds=0.1)
    response = ask(running.port, {**CHAT, "stream": True}).getresponse()
    response.readline()
    running.service.stop_accepting()
    *_, last, end = response.read().split(b"\n\n")
    assert end == b""
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "shutting_down"
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_waitress_answers_in_json_too(run):
    port = run(FakeEngine()).port
    head, body = send(port, b"GET / HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n")
    assert " 400 " in head
    assert body["error"]["type"] == "invalid_request_error"
    head, body = send(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n")
    assert " 431 " in head
    assert body["error"]["message"]
    head, body = send(port, b"POST /v1/completions HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n")
    assert " 413 " in head
    assert "application/json" in head
    assert body["error"]["type"] == "invalid_request_error"


def test_port_in_use_is_a_sentence():
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(MoedgeError, match="choose another"):
            bind("127.0.0.1", taken.getsockname()[1])


@pytest.fixture
def process():
    started = []

    def start(*command, lines):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment)
        started.append(child)
        return child, [child.stdout.readline() for _ in range(lines)]

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def test_sigterm_finishes_streams_and_refuses_new_requests(process, ask):
    child, (port,) = process(str(Path(__file__).with_name("serve_fake.py")), lines=1)
    response = ask(int(port), {**CHAT, "stream": True}).getresponse()
    response.readline()
    child.send_signal(signal.SIGTERM)
    wait_for(lambda: get(int(port), "/readyz")[0] == 503)
    refused = ask(int(port)).getresponse()
    assert refused.status == 503
    assert refused.getheader("Retry-After")
    assert json.loads(refused.read())["error"]["code"] == "shutting_down"
    text = response.read()
    assert text.count(b"word") == 20
    assert text.endswith(b"data: [DONE]\n\n")
    assert child.wait(30) == 0


def test_second_signal_ends_at_once(process, ask):
    child, (port,) = process(str(Path(__file__).with_name("serve_fake.py")), lines=1)
    response = ask(int(port), {**CHAT, "stream": True}).getresponse()
    response.readline()
    child.send_signal(signal.SIGTERM)
    wait_for(lambda: get(int(port), "/readyz")[0] == 503)
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 3.0  # the code above tells it from a drain; a busy machine is slow to end it


LOADS_FOREVER = """
import sys
from onnxruntime import InferenceSession
from moedge.edge_server import startup
from moedge.runtime.cli import main

class Slow:
    def load(bundle, *_, **__):
        print("loading")
        while True:
            InferenceSession(bundle / "model.onnx")

startup.Engine = Slow
sys.exit(main(["serve", sys.argv[1], "--port", "0"]))
"""


def test_sigterm_while_the_model_loads_is_a_clean_end(process, tmp_path):
    bundle = write_tiny_bundle(tmp_path / "toy")
    child, _ = process("-c", LOADS_FOREVER, str(bundle), lines=1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0  # not an abort of onnxruntime, which the interpreter's end surprises


def test_the_verb_serves_a_bundle_and_its_curl_line_is_right(process, tmp_path, ask):
    bundle = write_tiny_bundle(tmp_path / "toy", successors_of("<|assistant|>hello"))
    child, lines = process("-m", "moedge.runtime", "serve", str(bundle), "--port", "0", lines=3)
    assert "toy answers at" in lines[0]
    port = int(lines[0].rpartition(":")[2].partition("/")[0])
    curl = lines[2]
    assert f"curl http://127.0.0.1:{port}/v1/chat/completions" in curl
    body = json.loads(curl[curl.index("-d '") + 4 : curl.rindex("'")])
    answer = json.loads(ask(port, {**body, "temperature": 0}).getresponse().read())
    assert answer["choices"][0]["message"]["content"] == "hello"
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0
