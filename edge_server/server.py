"""waitress with the settings of a device, room for many idle connections, and a drain on SIGTERM.

One process: a loop for sockets in the main thread, worker threads for requests, the engine's own thread elsewhere.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from werkzeug.datastructures import Headers

from moedge.devices.errors import MoedgeError
from moedge.edge_server.connection import STRANGE_BODIES, UNREAD_BODIES, BodyRoom, Connection
from moedge.edge_server.json_body import MAX_BODY
from moedge.edge_server.keys import NO_KEYS, Keys
from moedge.edge_server.service import Service

log = logging.getLogger(__name__)

SPARE_THREADS = 8  # probes are answered while every place is taken by a stream
TICK_SECONDS = 0.25
SWEEP_SECONDS = 1.0
MOST_CONNECTIONS = 2048
SPARE_FILES = 128  # for the model, the log, and what libraries open
FLUSH_SECONDS = 1.0  # for the error events of streams that the drain cut off


class EdgeServer(TcpWSGIServer):  # type: ignore[misc]
    """A bound socket that answers with `app`. `streams`: how many requests may run or wait at once.

    Bodies that come without one of the `keys` share a little room of their own, so that they keep nobody else's out.
    """

    channel_class = Connection

    def __init__(self, app: Flask, bound: socket.socket, streams: int, keys: Keys = NO_KEYS) -> None:
        settings = Adjustments(
            sockets=[bound],
            threads=streams + SPARE_THREADS,
            channel_request_lookahead=1,  # else waitress does not read, and so not notice that a client left
            connection_limit=_most_connections(),
            asyncore_use_poll=True,
            max_request_header_size=32 << 10,
            max_request_body_size=MAX_BODY,
            # never into files: the machine may have no place for any, and prompts are nobody else's
            inbuf_overflow=2 * MAX_BODY,
            outbuf_overflow=1 << 30,
            outbuf_high_watermark=1 << 20,
            ident=None,
            clear_untrusted_proxy_headers=True,
            log_socket_errors=False,
        )
        self.body_room = BodyRoom(UNREAD_BODIES + streams * MAX_BODY)
        self._strange_room = BodyRoom(STRANGE_BODIES)
        self._keys = keys
        self._swept = time.monotonic()
        self._waits: Any = None  # the connection that had waited longest for a thread at the last sweep
        info = (bound.family, bound.type, bound.proto, bound.getsockname())
        super().__init__(app, _sock=bound, adj=settings, sockinfo=info, bind_socket=False)

    def room_for(self, headers: Mapping[str, str]) -> BodyRoom:
        """Where the body of a request with these headers, by waitress's names for them, has room."""
        sent = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
        return self._strange_room if self._keys and self._keys.owner_of(sent) is None else self.body_room

    def maintenance(self, now: float) -> None:
        """Nothing: it is called by the machine's clock, which may jump; `turn` looks by one that does not."""

    def handle_accept(self) -> None:
        """Let a client in; if there is no room, in the place of the one that has been idle for longest."""
        if len(self._map) >= self.adj.connection_limit - 1:
            idle = [channel for channel in self.active_channels.values() if not channel.requests]
            if idle:
                min(idle, key=lambda channel: channel.moved).handle_close()
        super().handle_accept()

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or sent."""
        channels: list[Any] = list(self.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def turn(self) -> None:
        """Wait for sockets, at most a tick, and serve them; once a second, end connections that are late."""
        wasyncore.loop(timeout=TICK_SECONDS, use_poll=True, map=self._map, count=1)
        now = time.monotonic()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for channel in list(self.active_channels.values()):
            if channel.late(now):
                channel.handle_close()  # not when it can be written to next: a client that reads nothing never can
        self._free_a_thread()

    def _free_a_thread(self) -> None:
        """Where a request has waited for one since the last sweep: end the answer whose client has read least lately.

        A thread that has made more than its client has read waits for it.
        """
        with self.task_dispatcher.lock:
            waits = self.task_dispatcher.queue[0] if self.task_dispatcher.queue else None
        if waits is not None and waits is self._waits:
            behind = [
                channel
                for channel in self.active_channels.values()
                if channel.total_outbufs_len > self.adj.outbuf_high_watermark
            ]
            if behind:
                min(behind, key=lambda channel: channel.moved).handle_close()
        self._waits = waits

    def shut(self) -> None:
        """Close every socket."""
        wasyncore.close_all(self._map)


def _most_connections() -> int:
    """As many as this process may have open files, up to MOST_CONNECTIONS, a reserve apart."""
    try:
        import resource
    except ImportError:  # not a Unix
        return SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft - SPARE_FILES)


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
