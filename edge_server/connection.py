"""One client's connection under waitress, with what waitress leaves open: JSON for its own errors, and deadlines.

A request that is refused before its body has come is answered, and the rest of it read and dropped for a while: a
socket that is closed over unread bytes is reset, and the client never sees the answer.
"""

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

from moedge.edge_server.anthropic.anthropic_errors import error_body, is_message_path
from moedge.edge_server.errors import DRAIN_RETRY_S, INVALID, ApiError

log = logging.getLogger(__name__)

DROP_SECONDS = 2.0  # for the rest of a request that was refused
HEADER_SECONDS = 10.0  # for a request's headers, from its first byte
REQUEST_SECONDS = 120.0  # for headers and body
IDLE_SECONDS = 120.0  # that a connection may lie between two requests
STALL_SECONDS = 30.0  # for a client to take any byte of an answer that waits for it
MAX_BETWEEN_CHUNKS = 8 << 10  # bytes of a chunk's size with its extensions, or of trailers, which nobody reads
UNREAD_BODIES = 32 << 20  # bytes of all bodies that are on their way, beside what open requests may have
STRANGE_BODIES = 8 << 20  # likewise, of all who show no key where one is wanted: they get a 401, and nobody's room
_BODY_FIELD = re.compile(rb"^(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE | re.MULTILINE)


class JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """Requests that waitress refuses before Flask sees them: malformed, or too large."""

    def execute(self) -> None:
        """Answer in the shape of all other errors."""
        error = self.request.error
        refusal = ApiError(error.code, f"{error.reason}: {error.body}", INVALID if error.code < 500 else "server_error")
        anthropic = is_message_path(getattr(self.request, "path", ""))
        content = json.dumps(error_body(refusal) if anthropic else refusal.body).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        if error.code == _BodyRoomError.code:
            self.response_headers.append(("Retry-After", str(DRAIN_RETRY_S)))
        self.set_close_on_finish()
        self.content_length = len(content)
        self.channel.refused = True
        self.write(content)
        log.info("a request was refused: %s", self.status)


class BodyRoom:
    """How many bytes of bodies are held for all connections together, so that nobody fills memory without a key."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()  # the loop takes, a request's thread gives back

    def take(self, count: int) -> bool:
        """Hold so many more, fewer if negative; whether they all fit."""
        with self._lock:
            self._held += count
            return count <= 0 or self._held <= self._most


class _BodyRoomError(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser; it also refuses what two servers in a row may read as different requests."""

    room: BodyRoom | None = None  # known once its headers are
    room_for: Callable[[Mapping[str, str]], BodyRoom] | None = None  # given by the connection
    completed: bool
    path: str
    _held = 0

    def received(self, data: bytes) -> int:
        """Take bytes of this request; how many of them are its own."""
        consumed: int = super().received(data)
        more = self.body_bytes_received - self._held
        if more and self.room is not None:
            self._held += more
            if not self.room.take(more) and not self.completed:
                self.error = _BodyRoomError("too many bodies are on their way, try again later")
                self.completed = True
        receiver = self.body_rcv
        if self.chunked and max(len(receiver.control_line), len(receiver.trailer)) > MAX_BETWEEN_CHUNKS:
            self.error = BadRequest("a line between two chunks, or behind the last, is too long")
            self.completed = True
        return consumed

    def close(self) -> None:
        """Give back what it holds."""
        if self.room is not None:
            self.room.take(-self._held)
            self._held = 0
        super().close()

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers; ParsingError for a body whose end is said in two ways (RFC 9112, 6.1)."""
        # asked of the bytes: an encoding that is empty, or none that waitress knows, is one all the same
        ends = {name.lower() for name in _BODY_FIELD.findall(header_plus)}
        if len(ends) > 1:
            raise ParsingError("Content-Length and Transfer-Encoding stand beside each other")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # an address that is none, a length of thousands of digits
            raise ParsingError(f"the request line or Content-Length cannot be read: {error}"[:200]) from None
        self.path = self.path or "/"  # of `http://localhost`; a redirect there would be HTML
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("HTTP/1.1 is spoken here")
        if self.version == "1.0" and b"transfer-encoding" in ends:
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        self.room = None if self.room_for is None else self.room_for(self.headers)


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection. `refused`: its request was answered without being read to the end."""

    error_task_class = JsonErrorTask
    parser_class: Any = StrictParser
    request: Any  # the one that is being received, a StrictParser
    requests: list[Any]  # those that are whole
    refused = False
    _closing = False
    _ending = False  # its refusal is written: what is left is to send it and to end the answer
    _began = 0.0  # when the first byte of the request at hand came, by the clock of time.monotonic
    _drop_until: float | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.moved = time.monotonic()  # when a byte came or went; waitress's own times jump with the machine's clock
        super().__init__(*arguments, **settings)
        self.parser_class = self._parser

    def _parser(self, adjustments: Any) -> StrictParser:
        parser = StrictParser(adjustments)
        parser.room_for = getattr(self.server, "room_for", None)
        return parser

    def received(self, data: bytes) -> bool:
        """Take bytes of one or more requests; what follows a refused one is none."""
        if self.refused:
            return False
        self.moved = time.monotonic()
        if self.request is None:
            self._began = self.moved
        taken: bool = super().received(data)
        return taken

    def service(self) -> None:
        """Answer; if that fails so badly that nobody answers, at least nobody waits."""
        try:
            super().service()
        except BaseException:
            self.requests = []
            self.will_close = True
            self.server.pull_trigger()
            raise

    def send_continue(self) -> None:
        """Ask for the body of a request that was announced; a refused one is answered without."""
        if self.request.error is None:
            super().send_continue()

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what the client takes now; how many bytes that was."""
        sent: int = super().send(data, do_close)
        if sent:
            self.moved = time.monotonic()
        return sent

    def late(self, now: float) -> bool:
        """Whether its client has had enough time for what it began to send, to take an answer, or to ask again."""
        if self._drop_until is not None:
            return now > self._drop_until
        if self.total_outbufs_len:
            return now - self.moved > STALL_SECONDS
        request = self.request
        if request is not None:
            return now - self._began > (REQUEST_SECONDS if request.headers_finished else HEADER_SECONDS)
        return not self.requests and now - self.moved > IDLE_SECONDS

    def handle_close(self) -> None:
        """Close, and give back the room of a body that was not sent to its end."""
        request = self.request
        if request is not None:
            self.request = None
            request.close()
        super().handle_close()

    def readable(self) -> bool:
        """Whether bytes may come."""
        return self._drop_until is not None or (not self._ending and bool(super().readable()))

    def handle_read(self) -> None:
        """Take bytes that have come, or drop them."""
        if self._drop_until is None:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)  # closes the connection at its end
        except OSError:
            self.handle_close()

    def writable(self) -> bool:
        """Whether there is something to send, or an answer to end."""
        return self._ending or bool(super().writable())

    def handle_write(self) -> None:
        """Send what is due; after a refusal, end the answer and keep the connection for the rest of the request."""
        super().handle_write()
        if self._ending and self.connected and not (self.requests or self.total_outbufs_len):
            self._ending = False
            self._drop_until = time.monotonic() + DROP_SECONDS
            with suppress(OSError):  # it has gone
                self.socket.shutdown(socket.SHUT_WR)

    @property
    def close_when_flushed(self) -> bool:
        """Whether waitress closes as soon as the answer is sent: never after a refusal."""
        return self._closing

    @close_when_flushed.setter
    def close_when_flushed(self, close: bool) -> None:
        """Set by the thread that answered, while the loop's may be in the middle of `handle_write`."""
        if self.refused:
            self._ending = close
        else:
            self._closing = close
