"""Clients that mean no good, or have a bad network: bytes that are no HTTP, floods, silence, a clock that jumps."""

import json
import random
import socket
import time
from contextlib import ExitStack

import pytest
from fake_engine import FakeEngine
from live_server import CHAT, Running, get, wait_for
from test_edge_connections import is_closed, open_socket
from waitress.adjustments import Adjustments

from moedge.edge_server import connection as module
from moedge.edge_server.connection import BodyRoom, StrictParser
from moedge.edge_server.json_body import MAX_BODY

MOST = MAX_BODY // 4
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def shared():
    running = Running(FakeEngine(), 2, 4, 5.0)
    running.server.adj.max_request_body_size = MOST  # a quarter, for a quarter of the time
    yield running
    running.stop()


def everything(opened, seconds=10):
    opened.settimeout(seconds)
    answer = b""
    try:
        while part := opened.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    opened.close()
    return answer


MALFORMED = {
    "length of 5,000 digits": POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "signed length": POST + b"Content-Length: +5\r\n\r\nabcde",
    "hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "length of a list": POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "length in other digits": POST + "Content-Length: ٥\r\n\r\nabcde".encode(),
    "an address that is none": b"GET http://[::1/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another address": b"GET http://[x]/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/1.2 with chunks": b"POST /v1/completions HTTP/1.2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.0 with chunks": b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked, x\r\n\r\n",
    "gzip chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "no chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "chunk size with a sign": POST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "bare CR": b"GET /livez HTTP/1.1\rHost: localhost\r\n\r\n",
    "folded header": b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "blank before colon": b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "NUL": b"GET /livez HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
    "no method": b" /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_answered_in_json_or_dropped(shared, name):
    """And never taken for two requests: what follows a refusal is none."""
    behind = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = everything(open_socket(shared.port, MALFORMED[name] + behind))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 501")), answer
    assert json.loads(body)["error"]["message"]
    assert answer.count(b"HTTP/1.") <= 1 + body.count(b"HTTP/1."), "one answer"
    assert get(shared.port, "/livez")[0] == 200


def test_no_bytes_break_the_parser():
    rng, seeds = random.Random(7), [*MALFORMED.values(), POST + b"Content-Length: 15\r\n\r\n" + b'{"prompt": "x"}']
    pieces = [
        b"\r\n",
        b"\n",
        b"\x00",
        b"\xff",
        b":",
        b" ",
        b"[",
        b"]",
        b"//",
        b"chunked",
        b"9" * 30,
        b"HTTP/1.0",
        b";a=b",
    ]
    settings = Adjustments(max_request_header_size=32 << 10, max_request_body_size=MAX_BODY)
    for _ in range(4000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            if rng.random() < 0.5:
                data[at:at] = rng.choice(pieces)
            else:
                del data[at : at + rng.randint(1, 9)]
        parser, rest = StrictParser(settings), bytes(data)
        for _ in range(60):
            rest = rest[parser.received(rest) :]
            if parser.completed:
                assert parser.error is None or parser.error.code >= 400
                parser = StrictParser(settings)
            if not rest:
                break


def test_pipelined_requests_are_answered_one_after_the_other(shared):
    one = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    requests = [one % (b"/v1/models" if i % 2 else b"/livez", b"") for i in range(60)]
    answer = everything(open_socket(shared.port, b"".join([*requests, one % (b"/livez", b"Connection: close\r\n")])))
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 ") == 61
    assert answer.index(b'{"status"') < answer.index(b'"object": "list"')


@pytest.mark.parametrize("way", ["chunk extension", "trailer", "empty lines", "tiny chunks", "one chunk"])
def test_a_body_without_an_end_is_a_413(shared, way):
    """However it is drawn out, by what is not even content too; probes are answered meanwhile."""
    begin = {"chunk extension": b"5;a=", "trailer": b"0\r\nX: ", "one chunk": b"ffffffff\r\n"}.get(way, b"")
    part = {"empty lines": b"\r\n" * 4096, "tiny chunks": b"1\r\na\r\n" * 1024}.get(way, b"a" * 8192)
    with open_socket(shared.port, POST + b"Transfer-Encoding: chunked\r\n\r\n" + begin) as opened:
        for sent in range(0, 2 * MOST, len(part)):
            try:
                opened.sendall(part)
            except OSError:
                break
            if sent == MOST // len(part) // 2 * len(part):
                assert get(shared.port, "/livez")[0] == 200
        opened.shutdown(socket.SHUT_WR)
        answer = everything(opened)
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 ")), answer[:200]


def test_bodies_of_all_connections_have_one_room(run, monkeypatch):
    """A stranger without a key may open a thousand connections and send four mebibytes on each."""
    running = run(FakeEngine(), 1, 0)
    running.server.body_room = BodyRoom(3 << 20)
    part = b"x" * (1 << 20)
    with ExitStack() as opened:
        head = POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY - 1)
        for _ in range(3):
            opened.enter_context(open_socket(running.port, head + part[:-1000]))
        wait_for(lambda: running.server.body_room._held > (2 << 20) + (900 << 10))
        answer = everything(opened.enter_context(open_socket(running.port, head + part)))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After:" in answer
        assert b"too many bodies" in answer
    wait_for(lambda: running.server.body_room._held == 0)  # those who leave give back theirs
    answer = everything(
        open_socket(running.port, POST + b"Content-Length: 15\r\nConnection: close\r\n\r\n" + b'{"prompt": "x"}')
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert running.server.body_room._held == 0


@pytest.mark.parametrize(
    "sent", [b"", b"GE", b"GET /livez HTTP/1.1\r\nHo", POST + b"Content-Length: 100\r\n\r\n{", POST]
)
def test_who_leaves_in_the_middle_leaves_nothing(shared, sent):
    before = len(shared.server.active_channels)
    opened = [open_socket(shared.port, sent) for _ in range(20)]
    wait_for(lambda: len(shared.server.active_channels) >= before + 20)
    for each in opened:
        each.close()
    wait_for(lambda: len(shared.server.active_channels) <= before)
    assert shared.server.body_room._held == 0


def test_who_does_not_read_is_cut_off_and_holds_nobody_up(run, ask, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.5)
    running = run(FakeEngine(lambda prompt: ["x" * 65536] * 400 if "much" in prompt else ["hi"]), 2, 2)
    body = json.dumps({"messages": [{"role": "user", "content": "much"}], "stream": True}).encode()
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    silent.connect(("127.0.0.1", running.port))
    silent.sendall(
        POST.replace(b"/completions", b"/chat/completions") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    for _ in range(5):
        assert ask(running.port).getresponse().status == 200
    wait_for(lambda: not running.server.active_channels or running.service.idle)
    wait_for(lambda: all(not channel.total_outbufs_len for channel in list(running.server.active_channels.values())))
    assert len(everything(silent)) < 400 * 65536
    wait_for(lambda: running.service.idle)
    assert ask(running.port).getresponse().status == 200


def test_who_reads_slowly_is_not_cut_off(run, ask, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.5)
    running = run(FakeEngine(lambda prompt: ["x" * 65536] * 160), 1, 0)
    response = ask(running.port, {**CHAT, "stream": True}).getresponse()
    text = b""
    while part := response.read(1 << 20):
        text += part
        time.sleep(0.15)
    assert text.endswith(b"data: [DONE]\n\n")
    assert text.count(b"x" * 65536) == 160


def test_an_idle_connection_is_closed_after_a_while(run, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
    opened = open_socket(run(FakeEngine()).port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert opened.recv(4) == b"HTTP"
    opened.recv(65536)
    wait_for(lambda: is_closed(opened))
    opened.close()


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0], ids=["forwards", "backwards"])
def test_a_clock_that_jumps_ends_nothing_and_forgets_nothing(run, ask, monkeypatch, jump):
    """A device without a battery learns the time when it has been running for a while."""
    monkeypatch.setattr(module, "HEADER_SECONDS", 1.0)
    engine = FakeEngine(lambda prompt: ["x "] * 40, step_seconds=0.05)
    running = run(engine)
    idle = open_socket(running.port)
    response = ask(running.port, {**CHAT, "stream": True}).getresponse()
    response.readline()
    slow = open_socket(running.port, b"GET /livez HTTP/1.1\r\n")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + jump)
    text = response.read()
    assert text.count(b'"x ') == 40
    assert text.endswith(b"data: [DONE]\n\n")
    assert not is_closed(idle)
    wait_for(lambda: is_closed(slow))
    idle.close()
    slow.close()
