"""Whatever is asked of a server, and however clients leave: afterwards nothing is held, and each answer had its end."""

import json
import random
import socket
import threading
from collections import Counter

from fake_engine import FakeEngine, MidwayError
from live_server import wait_for

ENDS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed", b"event: error", b'data: {"error"')
BROKEN = (b"", b"[1]", b"{", b"\xff", b'{"a":NaN}', b"[" * 200)
MANY = 100  # requests, of each of THREADS
THREADS = 5


def say(prompt):
    words: list[str | Exception] = ["one", " two", " three"]
    if "refused" in prompt:
        words[1] = MidwayError("a refusal in mid-answer.")
    elif "broken" in prompt:
        words[1] = RuntimeError("said: a prompt")
    return words


def body_for(rng, path):
    word, stream = rng.choice(["go", "refused", "broken", "y" * 5000]), rng.random() < 0.5
    messages = [{"role": "user", "content": word}]
    bodies = {
        "/v1/chat/completions": {"messages": messages, "stream": stream, "n": rng.choice([1, 1, 4])},
        "/v1/completions": {"prompt": rng.choice([word, [word] * 3, [5, 6]]), "stream": stream, "echo": stream},
        "/v1/responses": {"input": word, "stream": stream},
        "/v1/responses/input_tokens": {"input": word},
        "/v1/responses/compact": {"input": word},
        "/v1/responses/resp_none/cancel": {},
        "/v1/messages": {"messages": messages, "max_tokens": rng.choice([0, 9]), "stream": stream},
        "/v1/messages/count_tokens": {"messages": messages},
        "/v1/embeddings": {"input": word},
        "/tokenize": {"prompt": word},
        "/detokenize": {"tokens": [70]},
        "/apply-template": {"messages": messages},
    }
    body = bodies[path]
    body |= rng.choice([{}] * 12 + [{"no_such_field": 1}, {"model": "none"}, {"temperature": "hot"}])
    return rng.choice([json.dumps(body).encode()] * 15 + [rng.choice(BROKEN)])


PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/responses/input_tokens"),
    *("/v1/responses/compact", "/v1/responses/resp_none/cancel", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/embeddings", "/tokenize", "/detokenize", "/apply-template"),
)


def ask_something(rng, port, seen):
    """One request on a connection of its own, whose client may leave at any time."""
    path = rng.choice(PATHS)
    body, method = body_for(rng, path), rng.choice(["POST"] * 15 + ["GET", "HEAD", "OPTIONS", "DELETE"])
    kind = rng.choice(["application/json"] * 12 + ["text/plain"])
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        patience = rng.random()
        if patience < 0.3:
            seen["left"] += 1
            if patience < 0.15:
                connection.recv(100)
            return
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    head, _, said = answer.partition(b"\r\n\r\n")
    status = int(head[9:12])
    seen[status] += 1
    assert status < 500 or b"broken" in body, (path, body, answer)
    assert b"said:" not in said, "what an exception says of its data is nobody's"
    if status in (429, 503, 529):
        assert b"\r\nRetry-After: " in head
    if b"text/event-stream" in head:
        assert any(end in said for end in ENDS), (path, said)
    elif method != "HEAD" and status != 204:
        json.loads(said)


def test_nothing_is_held_after_hundreds_of_requests_of_every_kind(run):
    running = run(FakeEngine(say, step_seconds=0.001), max_running=4, max_queued=8)
    seen, failures = Counter(), []

    def work(seed):
        rng = random.Random(seed)
        try:
            for _ in range(MANY):
                ask_something(rng, running.port, seen)
        except Exception as error:  # told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    assert {"left", 200, 400, 404, 405, 415, 500} <= seen.keys()
    [model] = running.service.models
    wait_for(lambda: running.service.idle and not running.server.active_channels)
    wait_for(lambda: not model.leases)
    assert (model.waiting, running.server.body_room._held) == (0, 0)
    assert running.service.alive
