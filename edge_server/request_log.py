"""One line in the log for each request that has ended: what was asked of which route, how it went, never a text.

Each request has an id, its client's own or a new one, which the answer's headers repeat.
"""

import logging
import re
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import quote

from flask import Request, Response, g

from moedge.runtime.ticket import Ticket

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
LONGEST_PATH = 200  # characters in the log
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Record:
    """One request; `ticket` once it was accepted."""

    id: str
    method: str
    path: str
    probe: bool  # asked so often that a line each would hide the others
    began: float = field(default_factory=time.monotonic)
    ticket: Ticket | None = None

    def line(self, status: int) -> str:
        """`POST /v1/completions 200 prompt=12 cached=0 generated=40 ms=812 id=...`, without tokens if none ran."""
        tokens = ""
        if self.ticket is not None:
            timings = self.ticket.timings
            tokens = (
                f" prompt={timings.prompt_tokens} cached={timings.cached_tokens} generated={timings.generated_tokens}"
            )
        ms = 1000 * (time.monotonic() - self.began)
        return f"{self.method} {self.path} {status}{tokens} ms={ms:.0f} id={self.id}"


def begin_record(request: Request, probes: frozenset[str]) -> None:
    """Note that a request has come; `probes` are paths that are logged at the level DEBUG."""
    sent = request.headers.get(HEADER, "")
    identifier = sent if _ID.fullmatch(sent) else f"req-{secrets.token_hex(8)}"
    path = quote(request.path[:LONGEST_PATH])  # a path may hold line breaks
    g.record = Record(identifier, request.method[:16], path, request.path in probes)


def note_ticket(ticket: Ticket) -> None:
    """The current request was accepted as this ticket: its tokens are logged."""
    g.record.ticket = ticket


def end_record(response: Response) -> Response:
    """Give the answer the request's id, and log the request once it has been sent or its client has left."""
    record: Record = g.record
    response.headers[HEADER] = record.id
    level = logging.DEBUG if record.probe else logging.INFO
    response.call_on_close(lambda: log.log(level, "%s", record.line(response.status_code)))
    return response
