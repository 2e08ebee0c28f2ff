"""Engines that die, hang, or say what is no number; and prompts at the very end of the context."""

import json
import threading
import time

import pytest
from fake_engine import FakeEngine
from live_server import CHAT, get, wait_for
from tiny_bundle import WORDS, successors_of, write_tiny_bundle

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime import Engine


class Death(BaseException):
    """What no handler of requests foresees."""


STREAM = {**CHAT, "stream": True}


def last_event(text):
    *_, last, end = text.split(b"\n\n")
    assert end == b""
    return json.loads(last.removeprefix(b"data: "))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_streams_end_with_an_error_when_the_engines_thread_dies(run, ask):
    def answer(prompt):
        if "die" in prompt:
            raise Death
        return ["word "] * 1000

    engine = FakeEngine(answer, step_seconds=0.01)
    running = run(engine, 2, 2)
    response = ask(running.port, STREAM).getresponse()
    response.readline()
    began = time.monotonic()
    dying = ask(running.port, {"messages": [{"role": "user", "content": "die"}]}).getresponse()
    assert dying.status == 500
    assert last_event(response.read())["error"]["code"] == "internal_error"
    assert get(running.port, "/livez")[0] == 503
    assert get(running.port, "/readyz")[0] == 503
    assert ask(running.port).getresponse().status == 503
    assert time.monotonic() - began < 5


def test_streams_end_with_an_error_when_the_engine_hangs(serve):
    """The step is told of as soon as it has lasted too long; one that goes on after all is used again."""
    engine = FakeEngine()
    client = serve(engine, stalled_after_s=0.2)
    engine.gate.clear()
    response = client.post("/v1/chat/completions", json=STREAM)
    queued = []
    other = threading.Thread(target=lambda: queued.append(client.post("/v1/chat/completions", json=CHAT)))
    other.start()
    began = time.monotonic()
    assert last_event(response.data)["error"]["code"] == "internal_error"
    other.join(10)
    assert queued[0].status_code == 500
    assert client.get("/livez").status_code == 503
    assert time.monotonic() - began < 5
    engine.gate.set()
    wait_for(lambda: client.get("/livez").status_code == 200)
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_number_fails_its_request_and_changes_no_other(tmp_path, stream):
    """A weight is poisoned: after one token all logits are NaN. Others' tokens and probabilities stay what they are."""
    poison = WORDS.token_to_id("Q")
    bundle = write_tiny_bundle(tmp_path / "toy", successors_of("abcdefg"), poison=poison)
    service = Service()
    service.open(Engine.load(bundle), max_running=4, max_queued=8)
    client = create_app(service, Guard()).test_client()
    body = {"prompt": "xa", "max_tokens": 6, "seed": 3, "logprobs": 2}
    alone = client.post("/v1/completions", json=body).json["choices"]
    found, threads = [], []
    for number in range(6):
        asked = {"prompt": "xQ", "stream": stream} if number % 2 else body
        post = lambda asked=asked: found.append((asked, client.post("/v1/completions", json=asked)))  # noqa: E731
        threads.append(threading.Thread(target=post))
        threads[-1].start()
    for thread in threads:
        thread.join(20)
    for asked, response in found:
        if asked is body:
            assert response.json["choices"] == alone
        elif stream:
            assert last_event(response.data)["error"]["code"] == "internal_error"
        else:
            assert response.status_code == 500
            assert response.json["error"]["code"] == "internal_error"
    assert client.post("/v1/completions", json=body).json["choices"] == alone
    assert client.get("/livez").status_code == 200
    service.close()


def test_the_end_of_the_context(tmp_path):
    service = Service()
    service.open(Engine.load(write_tiny_bundle(tmp_path / "toy", context_length=16)))
    client = create_app(service, Guard()).test_client()
    for length, tokens in ((15, 2), (16, 1)):
        answer = client.post("/v1/completions", json={"prompt": [1] * length, "logit_bias": {"7": 100}}).json
        assert answer["choices"][0]["finish_reason"] == "length", length
        assert answer["usage"]["completion_tokens"] == tokens
    for length in (17, 1000):
        response = client.post("/v1/completions", json={"prompt": [1] * length})
        assert response.status_code == 400
        error = response.json["error"]
        assert error["code"] == "context_length_exceeded"
        assert "16 tokens" in error["message"]
        assert str(length) in error["message"]
    service.close()
