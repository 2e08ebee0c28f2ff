"""The response object of OpenAI's Responses API, whole or as the events of a stream; its output is made elsewhere."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from moedge.edge_server import replies
from moedge.edge_server.answering import AnswerEvents, ChatAnswer, Finished, Said
from moedge.edge_server.errors import api_error
from moedge.edge_server.replies import Json
from moedge.edge_server.responses.responses_output import ResponseOutput


@dataclass(frozen=True)
class ResponseHead:
    """What is the same from the first event to the last: the model, and what the request said."""

    model: str
    echo: Json
    id: str = field(default_factory=lambda: replies.new_id("resp_"))
    created_at: int = field(default_factory=lambda: int(time.time()))

    def body(self, status: str, output: list[Json], error: Json | None = None, reason: str | None = None) -> Json:
        """The object in one state; its usage is not known."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": self.model,
            "output": output,
            "service_tier": "default",
            **self.echo,
            "usage": None,
        }


class ResponseTeller:
    """One response while it is made. `keep` gets it when it has ended, before its client."""

    def __init__(
        self, head: ResponseHead, answer: ChatAnswer, output: ResponseOutput, keep: Callable[[Json], None]
    ) -> None:
        self._head = head
        self._answer = answer
        self._output = output
        self._keep = keep
        self._count = 0

    def whole(self, events: AnswerEvents) -> Json:
        """The response once its answer has ended."""
        for event in events:
            if event is None:
                continue
            if isinstance(event[1], Finished):
                return self._ended(event[1], self._output.close(_item_status(event[1])))
            _pass(self._output.read(event[1]))
        raise AssertionError("an answer ended without its end")

    def frames(self, events: AnswerEvents) -> Iterator[bytes | None]:
        """The events of its stream; None while nothing is said."""
        begun = self._head.body("in_progress", [])
        yield self._frame({"type": "response.created", "response": begun})
        yield self._frame({"type": "response.in_progress", "response": begun})
        for event in events:
            if event is None:
                yield None
            elif isinstance(event[1], Said):
                for told in self._output.read(event[1]):
                    yield self._frame(told)
            else:
                for told in self._output.close(_item_status(event[1])):
                    yield self._frame(told)
                response = self._ended(event[1], iter(()))
                yield self._frame({"type": f"response.{response['status']}", "response": response})

    def failed(self, error: Exception) -> bytes:
        """The events that end a stream that cannot go on."""
        api = api_error(error)
        told = {"code": api.code, "message": api.message, "param": api.param}
        code = "server_error" if api.status >= 500 else "invalid_prompt"  # OpenAI has few codes here
        _pass(self._output.close("incomplete"))
        response = self._head.body("failed", self._output.items, {"code": code, "message": api.message})
        response["usage"] = self._usage()
        self._keep(response)
        return self._frame({"type": "error", **told}) + self._frame({"type": "response.failed", "response": response})

    def _ended(self, finished: Finished, closing: Iterator[Json]) -> Json:
        _pass(closing)
        cut = finished.reason == "length"
        status, reason = ("incomplete", "max_output_tokens") if cut else ("completed", None)
        response = self._head.body(status, self._output.items, reason=reason)
        response |= {"usage": self._usage(), "timings": replies.timings(self._answer.ticket)}
        self._keep(response)
        return response

    def _usage(self) -> Json:
        timings = self._answer.ticket.timings
        return {
            "input_tokens": timings.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": timings.cached_tokens,
                "cache_write_tokens": timings.prompt_tokens - timings.cached_tokens,
            },
            "output_tokens": timings.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": self._answer.thought_tokens},
            "total_tokens": timings.prompt_tokens + timings.generated_tokens,
        }

    def _frame(self, event: Json) -> bytes:
        """One server-sent event, with its number."""
        numbered = {"type": event["type"], "sequence_number": self._count, **event}
        self._count += 1
        return replies.named_event(numbered)


def _item_status(finished: Finished) -> str:
    return "incomplete" if finished.reason == "length" else "completed"


def _pass(events: Iterator[Json]) -> None:
    """Let the output grow; nobody reads what is told."""
    for _ in events:
        pass
