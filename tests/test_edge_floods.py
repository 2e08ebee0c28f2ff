"""Small requests that would have made the server work, or hold or say, out of all proportion to their size."""

import json
import select
import socket
import threading
import time

import pytest
from edge_client import HELLO, chat, error_of
from fake_engine import FakeEngine
from live_server import wait_for

from moedge.edge_server.app import create_app
from moedge.edge_server.connection import STRANGE_BODIES, BodyRoom
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import LONGEST_PARAM
from moedge.edge_server.guard import Guard
from moedge.edge_server.json_body import MAX_CONTAINERS, parse_object
from moedge.edge_server.keys import Keys
from moedge.edge_server.responses.responses_store import MOST_READ, ResponseStore
from moedge.edge_server.server import EdgeServer, bind, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.forms.patterns import narrow_classes, whole

KEY = "correct-horse"


@pytest.mark.parametrize("text", [b'\\"', b'a"', b"\\"])
def test_texts_of_quotes_are_looked_at_once(text):
    began = time.monotonic()
    with pytest.raises(ApiError, match="more than 100000 lists and objects"):
        parse_object(b'{"a":' + b"[" * (MAX_CONTAINERS + 1) + b'"' + text * 16_000)
    assert time.monotonic() - began < 2  # it was 8 s, with all other threads waiting, and four times that for 32,000


def test_brackets_in_texts_are_none():
    texts = ['"[' * 3, "[{" * MAX_CONTAINERS, "\\"]
    assert parse_object(json.dumps({"a": texts}).encode()) == {"a": texts}


@pytest.mark.parametrize("start", ["[", "[^"])
def test_classes_that_do_not_end_are_looked_at_once(start):
    pattern, began = start * 10_000, time.monotonic()
    assert narrow_classes(pattern) == pattern
    assert whole(pattern) == f"/({pattern})/"
    assert time.monotonic() - began < 1  # it was 8 s
    assert narrow_classes(r"[\d[:alpha:]]\d[^\w\]]") == r"[0-9[:alpha:]][0-9][^A-Za-z0-9_\]]"


def test_a_request_refers_to_no_more_than_it_could_send(serve):
    client = serve(FakeEngine(lambda prompt: ["one"]))
    long = {"type": "message", "id": "msg_long", "role": "user", "content": "x" * 1_000_000}
    asked = {"input": [long, {"role": "user", "content": "go"}], "truncation": "auto"}
    first = client.post("/v1/responses", json=asked).json
    reference = {"type": "item_reference", "id": "msg_long"}
    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        for more, said in ((3, {}), (2, {"previous_response_id": first["id"]})):
            fits = {"input": [reference] * more + asked["input"][1:], "truncation": "auto", **said}
            assert client.post(path, json=fits).status_code == 200
            over = {**fits, "input": [reference] * 2 + fits["input"]}
            error = error_of(client.post(path, json=over), 400)
            assert error["param"] == "input"
            assert str(MOST_READ) in error["message"]


def test_conversations_end_before_they_fill_memory(serve):
    client = serve(FakeEngine(lambda prompt: ["one"]))
    previous, statuses = None, []
    for _ in range(6):
        turn = [{"role": "user", "content": "x" * 1_000_000}, {"role": "user", "content": "go"}]
        asked = {"input": turn, "truncation": "auto", "previous_response_id": previous}
        response = client.post("/v1/responses", json=asked)
        statuses.append(response.status_code)
        previous = response.json.get("id", previous)
    assert statuses == [200] * 5 + [400]  # each holds all before it


@pytest.mark.parametrize("bounds", [{"most": 8}, {"most_bytes": 8_000}])
def test_who_keeps_most_gives_up_first(bounds):
    store = ResponseStore(**bounds)

    def keep(owner, name):
        store.keep(owner, {"id": name, "output": []}, [{"id": f"msg_{name}", "text": "x" * 900}])

    keep("quiet", "q")
    for number in range(50):
        keep("loud", str(number))
    assert store.find("quiet", "q") is not None
    kept = [number for number in range(50) if store.find("loud", str(number))]
    assert kept == [*range(50 - len(kept), 50)]
    assert 6 <= len(kept) <= 7


def test_answers_that_never_find_places_are_not_to_be_tried_again(serve):
    client = serve(FakeEngine(), max_running=2, max_queued=3)
    error = error_of(client.post("/v1/completions", json={"prompt": ["a", "b", "c"], "n": 2}), 400)
    assert "6 answers take as many places, and this server has 5" in error["message"]
    assert client.post("/v1/completions", json={"prompt": ["a", "b"], "n": 2}).status_code == 200


def test_an_error_repeats_the_beginning_of_a_name(serve):
    client = serve()
    error = error_of(chat(client, **{"k" * 100_000: 1}), 400)
    assert error["param"] == "k" * LONGEST_PARAM + "…"
    for path, body in (("/v1/messages", {**HELLO, "max_tokens": 1}), ("/v1/responses", {"input": "x"})):
        assert len(client.post(path, json={**body, "k" * 100_000: 1}).data) < 1000


def test_bodies_without_a_key_keep_no_others_out():
    keys, service = Keys.of([KEY]), Service()
    service.open(FakeEngine(), 1, 0)
    server = EdgeServer(create_app(service, Guard(keys)), bind("127.0.0.1", 0), 1, keys)
    serving = threading.Thread(target=serve_until_drained, args=(server, service, 1.0, lambda: False), daemon=True)
    serving.start()
    server.body_room = BodyRoom(1 << 20)  # which one stranger would fill
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n"
    opened = [socket.create_connection(("127.0.0.1", server.effective_port), timeout=20) for _ in range(4)]
    try:
        *strangers, guest = opened
        for stranger in strangers:
            stranger.sendall(head.format(3 << 20, "").encode() + b"x" * ((3 << 20) - 1))
        assert len(strangers) * (3 << 20) > STRANGE_BODIES
        refused, _, _ = select.select(strangers, [], [], 20)
        assert refused[0].recv(12) == b"HTTP/1.1 503"
        body = json.dumps({"prompt": "x" * 100_000}).encode()
        known = f"Content-Type: application/json\r\nX-Api-Key: {KEY}\r\n"
        guest.sendall(head.format(len(body), known).encode() + body)
        answer = guest.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400")  # it was read: longer than the context
        assert b"context_length_exceeded" in answer
    finally:
        for connection in opened:
            connection.close()
        wait_for(lambda: not server.active_channels)
        service.stop_accepting()
        serving.join(10)
