"""What OpenAI's answers look like, and how they leave: ids, usage, timings, whole or as server-sent events.

It knows who still reads and gives up the ticket of who does not; what stands in an answer its endpoint says.
"""

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from flask import Request, Response

from moedge.edge_server.errors import api_error
from moedge.runtime.generation import Token
from moedge.runtime.ticket import Failed, Ticket

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
KEEP_ALIVE_SECONDS = 10.0  # of silence, such as a long prompt on a slow machine; proxies and clients give up on it
POLL_SECONDS = 0.04  # a client that left is noticed within this

Json = dict[str, Any]


class ClientLeft(Exception):  # noqa: N818 - an event, not an error
    """Nobody reads the answer any more."""


@dataclass(frozen=True)
class Reply:
    """The head of one answer, the same in all its chunks."""

    object: str  # "chat.completion" ...
    model: str
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, **more: Any) -> Json:
        """One JSON object of this answer."""
        return {"id": self.id, "object": self.object, "created": self.created, "model": self.model, **more}


def new_id(kind: str) -> str:
    """`kind` and 24 random characters."""
    return f"{kind}-{secrets.token_hex(12)}"


def usage(ticket: Ticket) -> Json:
    """Tokens of prompt and answer."""
    timings = ticket.timings
    return {
        "prompt_tokens": timings.prompt_tokens,
        "completion_tokens": timings.generated_tokens,
        "total_tokens": timings.prompt_tokens + timings.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": timings.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": ticket.guessed_right,
            "rejected_prediction_tokens": ticket.guessed - ticket.guessed_right,
        },
    }


def timings(ticket: Ticket) -> Json:
    """Milliseconds and tokens, beside OpenAI's fields."""
    return asdict(ticket.timings)


def numbers(ticket: Ticket) -> Json:
    """Usage and timings, as the end of a whole answer."""
    return {"usage": usage(ticket), "timings": timings(ticket)}


def json_response(body: Json, status: int = 200) -> Response:
    """A JSON answer, text as it is."""
    return Response(json.dumps(body, ensure_ascii=False), status, mimetype="application/json")


def client_left(request: Request) -> Callable[[], bool]:
    """Ask whether the other side has hung up; never, under a server that cannot tell."""
    asked: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return asked


def watch(ticket: Ticket, left: Callable[[], bool]) -> Generator[Token | None]:
    """A ticket's tokens, None while there is none; closed early, it cancels what is left.

    Raises the request's failure, or ClientLeft.
    """
    try:
        for event in ticket.events(POLL_SECONDS):
            if left():
                raise ClientLeft
            if isinstance(event, Failed):
                raise event.error
            yield event
    finally:
        ticket.cancel()  # nothing if it has finished


def stream_response(
    reply: Reply, ticket: Ticket, first: Json | None, parts: Iterator[Json | None], *, include_usage: bool
) -> Response:
    """Server-sent events; however the stream ends, and if it never begins, the ticket gives up its place.

    `first` leaves at once, and the headers with it; then come the parts. Each is what one chunk says beside its head;
    None says nothing, and is sent as a comment at first and after a long silence.
    """
    response = Response(_events(reply, ticket, first, parts, include_usage), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not collect them
    response.call_on_close(ticket.cancel)
    return response


def _events(
    reply: Reply, ticket: Ticket, first: Json | None, parts: Iterator[Json | None], include_usage: bool
) -> Iterator[bytes]:
    # OpenAI: with include_usage every chunk but the last has a usage of null
    null = {"usage": None} if include_usage else {}

    def chunk(part: Json | None) -> bytes:
        return KEEP_ALIVE if part is None else event(reply.body(**part, **null))

    try:
        yield chunk(first)
        spoke = time.monotonic()
        for part in parts:
            if part is not None or time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
                yield chunk(part)
                spoke = time.monotonic()
        if include_usage:
            yield event(reply.body(choices=[], usage=usage(ticket)))
        yield DONE
    except ClientLeft:
        return
    except Exception as error:
        yield error_event(error)


def event(body: Json) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def error_event(error: Exception) -> bytes:
    """What ends a stream that cannot go on; clients raise it. No [DONE] may follow, it would read as success."""
    return event(api_error(error).body)
