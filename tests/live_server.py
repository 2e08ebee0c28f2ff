"""The endpoint on a real socket, in a thread of the test, and clients of it."""

import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack

from fake_engine import FakeEngine

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.server import EdgeServer, bind, serve_until_drained
from moedge.edge_server.service import Service
from moedge.runtime.engine import Engine

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


class Running:
    """A server in a thread."""

    def __init__(self, engine: FakeEngine | Engine, max_running: int, max_queued: int, drain_seconds: float) -> None:
        self.engine = engine
        self.service = Service()
        self.service.open(engine, max_running, max_queued)
        self.server = EdgeServer(create_app(self.service, Guard()), bind("127.0.0.1", 0), max_running + max_queued)
        self.port = int(self.server.effective_port)
        arguments = (self.server, self.service, drain_seconds, lambda: False)
        self.thread = threading.Thread(target=serve_until_drained, args=arguments, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if isinstance(self.engine, FakeEngine):
            self.engine.gate.set()
            self.engine.step_seconds = 0.0
        self.service.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


class Connection(http.client.HTTPConnection):
    """Closed with its responses, which outlive it, when `opened` is."""

    def __init__(self, port: int, opened: ExitStack) -> None:
        super().__init__("127.0.0.1", port, timeout=20)
        self._opened = opened
        opened.callback(self.close)

    def getresponse(self):
        return self._opened.enter_context(super().getresponse())


def get(port, path):
    with ExitStack() as opened:
        connection = Connection(port, opened)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def send(port, data):
    """The whole answer to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), json.loads(body)


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def leave(connection):
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
