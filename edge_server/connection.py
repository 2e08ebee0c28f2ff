"""One client's connection under waitress, with what waitress leaves open: JSON for its own errors, and deadlines.

A request that is refused before its body has come is answered, and the rest of it read and dropped for a while: a
socket that is closed over unread bytes is reset, and the client never sees the answer.
"""

import json
import logging
import re
import socket
import time
from contextlib import suppress

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from moedge.edge_server.errors import INVALID

log = logging.getLogger(__name__)

DROP_SECONDS = 2.0  # for the rest of a request that was refused
HEADER_SECONDS = 10.0  # for a request's headers, from its first byte
REQUEST_SECONDS = 120.0  # for headers and body
_BODY_FIELD = re.compile(rb"^(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE | re.MULTILINE)


class JsonErrorTask(ErrorTask):  # type: ignore[misc]
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
        self.channel.refused = True
        self.write(content)
        log.info("a request was refused: %s", self.status)


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser; it also refuses what two servers in a row may read as different requests."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers; ParsingError for a body whose end is said in two ways (RFC 9112, 6.1)."""
        # asked of the bytes: an encoding that is empty, or none that waitress knows, is one all the same
        if len({name.lower() for name in _BODY_FIELD.findall(header_plus)}) > 1:
            raise ParsingError("Content-Length and Transfer-Encoding stand beside each other")
        super().parse_header(header_plus)


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection. `refused`: its request was answered without being read to the end."""

    error_task_class = JsonErrorTask
    parser_class = StrictParser
    refused = False
    _closing = False
    _ending = False  # its refusal is written: what is left is to send it and to end the answer
    _began = 0.0  # when the first byte of the request at hand came, by the clock of time.monotonic
    _drop_until: float | None = None

    def received(self, data: bytes) -> bool:
        """Take bytes of one or more requests; what follows a refused one is none."""
        if self.refused:
            return False
        if self.request is None:
            self._began = time.monotonic()
        taken: bool = super().received(data)
        return taken

    def send_continue(self) -> None:
        """Ask for the body of a request that was announced; a refused one is answered without."""
        if self.request.error is None:
            super().send_continue()

    def late(self, now: float) -> bool:
        """Whether its client has had enough time for what it began to send."""
        if self._drop_until is not None:
            return now > self._drop_until
        request = self.request
        if request is None:
            return False
        return now - self._began > (REQUEST_SECONDS if request.headers_finished else HEADER_SECONDS)

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
