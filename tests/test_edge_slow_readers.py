"""Clients that read their answers slowly, as many as there are threads: they keep none of them from anybody else."""

import json
import socket
import time
from contextlib import ExitStack

from fake_engine import FakeEngine
from live_server import get, wait_for

from moedge.edge_server.server import SPARE_THREADS

LONG = 400 * ["x" * 1000]


def test_slow_readers_make_way_where_no_thread_is_left(run):
    running = run(FakeEngine(lambda prompt: LONG), max_running=1, max_queued=0)
    running.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 10)  # its connections have it too
    running.server.adj.outbuf_high_watermark = 64 << 10
    body = json.dumps({"prompt": "go", "stream": True, "max_tokens": len(LONG)}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    dispatcher = running.server.task_dispatcher
    with ExitStack() as opened:
        for taken in range(1 + SPARE_THREADS):
            reader = opened.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
            reader.settimeout(20)
            reader.connect(("127.0.0.1", running.port))
            reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert reader.recv(12) == b"HTTP/1.1 200"
            wait_for(lambda: running.service.idle)  # all is made; its thread waits for a client that reads no more
            assert dispatcher.active_count == 1 + taken
        began = time.monotonic()
        assert get(running.port, "/livez")[0] == 200
        assert time.monotonic() - began < 10  # it was STALL_SECONDS
        behind = [each for each in running.server.active_channels.values() if each.total_outbufs_len > 64 << 10]
        assert len(behind) == SPARE_THREADS, "one is enough"
