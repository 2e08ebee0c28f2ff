"""Connections that send too much, too slowly, nothing at all, or say in two ways where a request ends."""

import http.client
import json
import logging
import socket
import time
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine
from live_server import get, send, wait_for
from waitress.adjustments import Adjustments

from moedge.edge_server import connection as module
from moedge.edge_server import server as server_module
from moedge.edge_server.json_body import MAX_BODY


def open_socket(port, data=b""):
    opened = socket.create_connection(("127.0.0.1", port), timeout=20)
    opened.sendall(data)
    return opened


def is_closed(opened):
    """Whether the other side has ended it; never waits."""
    opened.setblocking(False)
    try:
        return opened.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("size", [MAX_BODY + 1, 3 * MAX_BODY])
def test_a_client_that_sends_too_much_reads_why(run, size):
    """It sends everything before it reads, as most clients do: nothing resets its connection meanwhile."""
    client = http.client.HTTPConnection("127.0.0.1", run(FakeEngine()).port, timeout=20)
    client.request("POST", "/v1/completions", b"x" * size, {"Content-Type": "application/json"})
    response = client.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["type"] == "invalid_request_error"
    client.close()


def test_a_chunked_body_that_is_too_large_is_a_413_too(run):
    parts = (b"x" * 65536 for _ in range(2 * MAX_BODY // 65536))
    with closing(http.client.HTTPConnection("127.0.0.1", run(FakeEngine()).port, timeout=20)) as client:
        client.request("POST", "/v1/completions", parts, {"Content-Type": "application/json"}, encode_chunked=True)
        assert client.getresponse().status == 413


def test_a_body_that_is_announced_and_too_large_is_refused_before_it_comes(run):
    request = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    head, body = send(run(FakeEngine()).port, request % (MAX_BODY + 1))
    assert head.startswith("HTTP/1.1 413 ")
    assert body["error"]["type"] == "invalid_request_error"


def test_what_comes_after_a_refusal_is_dropped_for_a_while_only(run, monkeypatch):
    monkeypatch.setattr(module, "DROP_SECONDS", 0.05)
    running = run(FakeEngine())
    opened = open_socket(running.port, b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
    assert opened.recv(12) == b"HTTP/1.1 413"
    wait_for(lambda: not running.server.active_channels)
    opened.close()


def test_a_refusal_is_never_closed_over_bytes_that_still_come():
    """Its thread says that the connection may end, then drops the request; the loop may write in between."""
    ours, theirs = socket.socketpair()
    server = SimpleNamespace(active_channels={})
    with theirs:
        channel = module.Connection(server, ours, "", Adjustments(), map={})
        channel.refused, channel.requests, channel.close_when_flushed = True, [object()], True
        assert channel.writable()
        assert not channel.readable()
        channel.handle_write()
        theirs.sendall(b"the rest of a body")
        channel.requests = []
        channel.handle_write()
        assert theirs.recv(1) == b""
        theirs.sendall(b"and more of it")
        assert channel.readable()
        channel.handle_read()
        assert channel.connected
        channel.handle_close()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\ncontent-length: 0",
        b"Content-Length: 5\r\nTransfer-Encoding:",
        b"transfer-encoding: identity\r\nContent-Length: 5",
    ],
)
def test_a_body_that_ends_in_two_ways_is_a_400(run, version, headers):
    request = b"POST /v1/completions HTTP/" + version + b"\r\nHost: localhost\r\n" + headers + b"\r\n\r\n0\r\n\r\n"
    head, body = send(run(FakeEngine()).port, request)
    assert " 400 " in head
    assert "Transfer-Encoding" in body["error"]["message"]


def test_one_way_alone_is_read(run):
    parts = iter([b'{"prompt":', b' "x"}'])
    client = http.client.HTTPConnection("127.0.0.1", run(FakeEngine()).port, timeout=20)
    client.request("POST", "/v1/completions", parts, {"Content-Type": "application/json"}, encode_chunked=True)
    assert client.getresponse().status == 200
    client.close()


@pytest.mark.parametrize("path", [b"/livez", b"/readyz"])
def test_probes_need_no_host(run, path):
    port = run(FakeEngine()).port
    assert " 200 " in send(port, b"GET " + path + b" HTTP/1.0\r\n\r\n")[0]
    assert (
        " 200 " in send(port, b"GET " + path + b" HTTP/1.1\r\nHost: moedge.svc.cluster\r\nConnection: close\r\n\r\n")[0]
    )
    assert " 403 " in send(port, b"GET /v1/models HTTP/1.0\r\n\r\n")[0]


def test_headers_that_drip_are_cut_and_others_are_not(run, monkeypatch):
    monkeypatch.setattr(module, "HEADER_SECONDS", 0.3)
    running = run(FakeEngine())
    idle = open_socket(running.port)
    slow = open_socket(running.port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
    began = time.monotonic()
    while not is_closed(slow):
        assert time.monotonic() - began < 10
        slow.setblocking(True)
        try:
            slow.sendall(b"X-A: b\r\n")
        except OSError:
            break
        time.sleep(0.02)
    assert not is_closed(idle)
    assert get(running.port, "/livez")[0] == 200
    idle.close()
    slow.close()


def test_a_body_has_a_limit_of_time_too(run, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.1)
    opened = open_socket(run(FakeEngine()).port, b"POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    wait_for(lambda: is_closed(opened))
    opened.close()


def test_an_answer_that_takes_longer_than_a_request_may_is_not_cut(run, ask, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(module, "HEADER_SECONDS", 0.05)
    engine = FakeEngine(lambda prompt: ["x"] * 5, step_seconds=0.5)
    response = ask(run(engine).port, {"messages": [{"role": "user", "content": "hi"}], "stream": True}).getresponse()
    assert response.read().endswith(b"data: [DONE]\n\n")


def test_probes_are_answered_beside_a_thousand_idle_connections(run):
    running = run(FakeEngine())
    with ExitStack() as opened:
        for _ in range(1000):
            opened.enter_context(open_socket(running.port))
        wait_for(lambda: len(running.server.active_channels) == 1000)
        assert get(running.port, "/livez")[0] == 200


def test_where_no_more_fit_the_idlest_makes_room(run, monkeypatch):
    monkeypatch.setattr(server_module, "_most_connections", lambda: 12)
    running = run(FakeEngine())
    with ExitStack() as opened:
        sockets = [opened.enter_context(open_socket(running.port)) for _ in range(30)]
        assert get(running.port, "/livez")[0] == 200
        wait_for(lambda: is_closed(sockets[0]))
        assert not is_closed(sockets[-1])


def test_a_drain_says_so(run, caplog):
    caplog.set_level(logging.INFO)
    running = run(FakeEngine(), drain_seconds=7.0)
    running.service.stop_accepting()
    running.thread.join(10)
    assert [record.getMessage() for record in caplog.records if record.name == server_module.__name__] == [
        "draining: open answers have 7 s, a second signal ends at once"
    ]
