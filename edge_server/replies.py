"""What OpenAI's answers look like: ids, usage, timings, chunks and server-sent events."""

import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from flask import Response

from moedge.edge_server.errors import api_error
from moedge.runtime.ticket import Ticket

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
KEEP_ALIVE_SECONDS = 10.0  # of silence, such as a long prompt on a slow machine; proxies and clients give up on it

Json = dict[str, Any]


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
    }


def timings(ticket: Ticket) -> Json:
    """Milliseconds and tokens, beside OpenAI's fields."""
    return asdict(ticket.timings)


def json_response(body: Json, status: int = 200) -> Response:
    """A JSON answer, text as it is."""
    return Response(json.dumps(body, ensure_ascii=False), status, mimetype="application/json")


def event(body: Json) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def error_event(error: Exception) -> bytes:
    """What ends a stream that cannot go on; clients raise it. No [DONE] may follow, it would read as success."""
    return event(api_error(error).body)
