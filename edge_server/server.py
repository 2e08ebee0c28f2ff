"""waitress with the settings of a device, JSON for the errors it answers itself, and a drain on SIGTERM.

One process: a loop for sockets in the main thread, worker threads for requests, the engine's own thread elsewhere.
"""

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import INVALID
from moedge.edge_server.json_body import MAX_BODY
from moedge.edge_server.service import Service

log = logging.getLogger(__name__)

SPARE_THREADS = 8  # probes are answered while every place is taken by a stream
TICK_SECONDS = 0.25
FLUSH_SECONDS = 1.0  # for the error events of streams that the drain cut off


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """Requests that waitress refuses before Flask sees them: malformed, or too large."""

    def execute(self) -> None:
        """Answer in the shape of all other errors."""
        error = self.request.error
        kind = INVALID if error.code < 500 else "server_error"
        body = {"message": f"{error.reason}: {error.body}", "type": kind, "param": None, "code": None}
        content = json.dumps({"error": body}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(content)
        self.write(content)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _JsonErrorTask


class EdgeServer(TcpWSGIServer):  # type: ignore[misc]
    """A bound socket that answers with `app`. `streams`: how many requests may run or wait at once."""

    channel_class = _Channel

    def __init__(self, app: Flask, bound: socket.socket, streams: int) -> None:
        settings = Adjustments(
            sockets=[bound],
            threads=streams + SPARE_THREADS,
            channel_request_lookahead=1,  # else waitress does not read, and so not notice that a client left
            connection_limit=1000,
            asyncore_use_poll=True,
            max_request_header_size=32 << 10,
            max_request_body_size=MAX_BODY,
            outbuf_high_watermark=1 << 20,
            ident=None,
            clear_untrusted_proxy_headers=True,
            log_socket_errors=False,
        )
        info = (bound.family, bound.type, bound.proto, bound.getsockname())
        super().__init__(app, _sock=bound, adj=settings, sockinfo=info, bind_socket=False)

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or sent."""
        channels: list[Any] = list(self.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def turn(self) -> None:
        """Wait for sockets, at most a tick, and serve them."""
        wasyncore.loop(timeout=TICK_SECONDS, use_poll=True, map=self._map, count=1)

    def shut(self) -> None:
        """Close every socket."""
        wasyncore.close_all(self._map)


def bind(host: str, port: int) -> socket.socket:
    """A listening address; MoedgeError if it is taken or not this machine's. Port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as undone:
            bound = undone.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            undone.pop_all()
    except OSError as error:
        raise MoedgeError(f"cannot listen on {host} port {port} ({error.strerror or error}): choose another.") from None
    return bound


def serve_until_drained(server: EdgeServer, service: Service, drain_seconds: float, failed: Callable[[], bool]) -> None:
    """Serve until a drain has sent all answers or has lasted `drain_seconds`, or until `failed` says so."""
    deadline = None
    closing = False
    while not failed():
        server.turn()
        if not service.draining:
            continue
        now = time.monotonic()
        if deadline is None:
            deadline = now + drain_seconds
            log.info("draining: open answers have %g s, a second signal ends at once", drain_seconds)
        if service.idle and not server.busy:
            break
        if now > deadline:
            if closing:
                break
            service.close()  # streams end with an error event
            closing, deadline = True, now + FLUSH_SECONDS
    service.close()
    server.shut()


def drain_on_signals(server: EdgeServer, service: Service) -> None:
    """SIGTERM and SIGINT drain; a second one ends the process at once."""

    def drain(number: int, frame: FrameType | None) -> None:
        if service.draining:
            os._exit(128 + number)
        service.stop_accepting()
        server.pull_trigger()  # the loop looks now, not at its next tick

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, drain)
