"""What is kept of a request while it is answered, and the line in the log once it has ended; never a text.

Each request has an id, its client's own or a new one, which the answer's headers repeat.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from flask import Request, Response, g

from moedge.runtime.ticket import Ticket

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
LONGEST_PATH = 200  # characters in the log
# What a line for people has of the facts, and how it spells them.
SHORT = {
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "generated_tokens": "generated",
    "ms": "ms",
    "request_id": "id",
}
LEFT_STATUS = 499  # of an answer whose client has gone before it was whole
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class TokenCounts:
    """Of one request: prompt tokens once for each prompt, of them those found in a cache, and those of all answers."""

    prompt: int
    cached: int
    generated: int


@dataclass(eq=False)
class Record:
    """One request; `tickets` once it was accepted: so many answers to each prompt, prompt after prompt."""

    id: str
    method: str
    path: str
    probe: bool  # asked so often that a line each would hide the others
    began: float = field(default_factory=time.monotonic)
    model: str = ""  # as answers call it
    tickets: Sequence[Ticket] = ()
    answers: int = 1
    accepted: float = 0.0  # when there were tickets
    error_type: str = ""  # a code of ours; "" while nothing has failed
    streams: bool = False
    whole: bool = False  # of a stream: all of it was made

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.monotonic() - self.began

    @property
    def tokens(self) -> TokenCounts | None:
        """None if none ran."""
        if not self.tickets:
            return None
        prompts = [ticket.timings for ticket in self.tickets[:: self.answers]]
        return TokenCounts(
            sum(each.prompt_tokens for each in prompts),
            sum(each.cached_tokens for each in prompts),
            sum(ticket.generated_tokens for ticket in self.tickets),
        )

    def left(self, status: int) -> bool:
        """Whether, now that it has ended, its client had gone before the answer was whole."""
        return status == LEFT_STATUS or (self.streams and not self.whole and not self.error_type)

    def facts(self, status: int) -> dict[str, Any]:
        """What the log tells of it, by the names of its JSON."""
        facts: dict[str, Any] = {"method": self.method, "path": self.path, "status": status}
        if self.model:
            facts["model"] = self.model
        if (tokens := self.tokens) is not None:
            facts |= {
                "prompt_tokens": tokens.prompt,
                "cached_tokens": tokens.cached,
                "generated_tokens": tokens.generated,
            }
        if self.error_type:
            facts["error"] = self.error_type
        return facts | {"ms": round(1000 * self.seconds), "request_id": self.id}

    def line(self, status: int) -> str:
        """`POST /v1/completions 200 prompt=12 cached=0 generated=40 ms=812 id=...`, without tokens if none ran."""
        facts = self.facts(status)
        shown = [f"{short}={facts[name]}" for name, short in SHORT.items() if name in facts]
        return " ".join((self.method, self.path, str(status), *shown))


def begin_record(request: Request, probes: frozenset[str]) -> Record:
    """Note that a request has come; `probes` are paths that are logged at the level DEBUG."""
    sent = request.headers.get(HEADER, "")
    identifier = sent if _ID.fullmatch(sent) else f"req-{secrets.token_hex(8)}"
    path = quote(request.path[:LONGEST_PATH])  # a path may hold line breaks, a method escapes of a terminal
    record = g.record = Record(identifier, quote(request.method[:16]), path, request.path in probes)
    return record


def current_id() -> str:
    """The id of the current request."""
    record: Record = g.record
    return record.id


def note_tickets(model: str, tickets: Sequence[Ticket], answers: int) -> None:
    """The current request was accepted as these tickets, so many `answers` to each prompt, prompt after prompt."""
    record: Record = g.record
    record.model, record.tickets, record.answers = model, tickets, answers
    record.accepted = time.monotonic()


def note_error(error_type: str) -> None:
    """The current request is answered with an error of this code."""
    if "record" in g:
        g.record.error_type = error_type


def end_record(response: Response, ended: Callable[[Record, int], None]) -> Response:
    """Give the answer the request's id; log the request, and tell `ended`, once it is sent or its client has left."""
    record: Record = g.record
    response.headers[HEADER] = record.id
    response.call_on_close(lambda: _finish(record, response.status_code, ended))
    return response


def _finish(record: Record, status: int, ended: Callable[[Record, int], None]) -> None:
    ended(record, status)
    level = logging.DEBUG if record.probe else logging.INFO
    log.log(level, "%s", record.line(status), extra={"request": record.facts(status)})
