"""How answers leave: whole or as server-sent events, and what OpenAI's have in common: ids, usage, timings, chunks.

What stands in an answer its endpoint says.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flask import Request, Response, g

from moedge.edge_server.errors import api_error, error_type
from moedge.edge_server.observing.request_log import Record
from moedge.runtime.ticket import Ticket

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
KEEP_ALIVE_SECONDS = 10.0  # of silence, such as a long prompt on a slow machine; proxies and clients give up on it
POLL_SECONDS = 0.02  # a client that left is noticed within this

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


def new_id(prefix: str) -> str:
    """An id that nobody else has: `prefix`, such as "chatcmpl-", and 24 random letters and digits."""
    return f"{prefix}{secrets.token_hex(12)}"


def usage(tickets: Sequence[Ticket], thought_tokens: int = 0) -> Json:
    """Tokens of prompt and answers; all are answers to one prompt, which is counted once."""
    timings = [ticket.timings for ticket in tickets]
    generated = sum(each.generated_tokens for each in timings)
    prompt = timings[0].prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": timings[0].cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": thought_tokens,
            "accepted_prediction_tokens": sum(ticket.guessed_right for ticket in tickets),
            "rejected_prediction_tokens": sum(ticket.guessed - ticket.guessed_right for ticket in tickets),
        },
    }


def add_usage(parts: Sequence[Json]) -> Json:
    """The usage of several prompts, number by number."""
    first, *others = parts
    for other in others:
        first = {
            name: add_usage([value, other[name]]) if isinstance(value, dict) else value + other[name]
            for name, value in first.items()
        }
    return first


def timings(ticket: Ticket) -> Json:
    """Milliseconds and tokens, beside OpenAI's fields."""
    return asdict(ticket.timings)


def json_response(body: Json, status: int = 200) -> Response:
    """A JSON answer, text as it is."""
    return Response(json.dumps(body, ensure_ascii=False), status, mimetype="application/json")


def client_left(request: Request) -> Callable[[], bool]:
    """Ask whether the other side has hung up; never, under a server that cannot tell."""
    asked: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return asked


def stream_response(
    tickets: Sequence[Ticket],
    frames: Iterator[bytes | None],
    failure: Callable[[Exception], bytes],
    keep_alive: bytes = KEEP_ALIVE,
) -> Response:
    """Server-sent events; however the stream ends, and if it never begins, the tickets give up their places.

    Of `frames` None says nothing, and is sent as `keep_alive`, a comment, at first, so that the headers leave, and
    after a long silence. `failure` is the event that an exception ends with; after it comes nothing.
    """
    record: Record = g.record
    record.streams = True
    response = Response(_frames(frames, failure, keep_alive, record), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not collect them

    def leave() -> None:
        for ticket in tickets:
            ticket.cancel()

    response.call_on_close(leave)
    return response


def _frames(
    frames: Iterator[bytes | None], failure: Callable[[Exception], bytes], keep_alive: bytes, record: Record
) -> Iterator[bytes]:
    spoke = None
    try:
        for frame in frames:
            if frame is not None or spoke is None or time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
                yield keep_alive if frame is None else frame
                spoke = time.monotonic()
        record.whole = True
    except ClientLeft:
        return
    except Exception as error:
        record.error_type = error_type(error)
        yield failure(error)


def chunks(reply: Reply, parts: Iterator[Json | None], usage_of: Callable[[], Json] | None) -> Iterator[bytes | None]:
    """OpenAI's chunks and what ends them, each part with the reply's head; with `usage_of` a chunk of its own for that.

    It is asked at the end.
    """
    # OpenAI: with include_usage every chunk but the last has a usage of null
    null = {} if usage_of is None else {"usage": None}
    for part in parts:
        yield None if part is None else event(reply.body(**part, **null))
    if usage_of is not None:
        yield event(reply.body(choices=[], usage=usage_of()))
    yield DONE


def event(body: Json) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def named_event(body: Json) -> bytes:
    """One server-sent event, named as the `type` of its body is."""
    return f"event: {body['type']}\n".encode() + event(body)


def error_event(error: Exception) -> bytes:
    """What ends a stream that cannot go on; clients raise it. No [DONE] may follow, it would read as success."""
    return event(api_error(error).body)
