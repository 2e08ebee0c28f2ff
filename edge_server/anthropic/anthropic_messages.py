"""POST /v1/messages and /v1/messages/count_tokens: a question in Anthropic's form, and its answer as blocks or events.

How the request is read is anthropic_wire.py's matter, what the blocks are anthropic_events.py's.
"""

from collections.abc import Iterator

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.answering import AnswerEvents, ChatAnswer, Said, ask, encode_question, follow
from moedge.edge_server.anthropic.anthropic_errors import ID_HEADER, anthropic_response, error_body
from moedge.edge_server.anthropic.anthropic_events import AnswerBlocks
from moedge.edge_server.anthropic.anthropic_wire import MessageRequest, read_message, read_token_count
from moedge.edge_server.errors import api_error
from moedge.edge_server.json_body import read_json
from moedge.edge_server.observing.request_log import current_id
from moedge.edge_server.replies import Json, named_event
from moedge.edge_server.service import Service

PING = named_event({"type": "ping"})
STOP_REASONS = {"tool_calls": "tool_use", "stop": "end_turn"}


def create_message(service: Service) -> Response:
    """Answer one request, whole or as a stream of events."""
    body = read_json(request)
    loaded = service.ready_for(body)
    asked = read_message(body, loaded.defaults, loaded.limits())
    message = MessageReply(loaded.name, ask(loaded, asked.question)[0], asked)
    events = follow([message.answer], replies.client_left(request))
    if not asked.stream:
        return anthropic_response(message.whole(events))
    request_id = current_id()  # asked now: a stream outlives it

    def failure(error: Exception) -> bytes:
        return named_event(error_body(api_error(error), request_id))

    response = replies.stream_response([message.answer.ticket], message.frames(events), failure, PING)
    response.headers[ID_HEADER] = request_id
    return response


def count_message_tokens(service: Service) -> Response:
    """How many tokens the prompt of a request has; nothing is queued."""
    body = read_json(request)
    loaded = service.ready_for(body)
    question = read_token_count(body, loaded.defaults, loaded.limits())
    with loaded.prompt_in("messages"):
        token_ids, _ = encode_question(loaded, question)
    return anthropic_response({"input_tokens": len(token_ids)})


class MessageReply:
    """The message that one answer is told in."""

    def __init__(self, model: str, answer: ChatAnswer, asked: MessageRequest) -> None:
        self.answer = answer
        self._model = model
        self._asked = asked
        self._id = replies.new_id("msg_01")
        self._blocks = AnswerBlocks(asked.shows_thinking)

    def whole(self, events: AnswerEvents) -> Json:
        """The message, once all is said."""
        for _ in self._read(events):
            pass
        return self._message(self._blocks.content, self._ending(), timings=replies.timings(self.answer.ticket))

    def frames(self, events: AnswerEvents) -> Iterator[bytes | None]:
        """The message as server-sent events."""
        yield named_event({"type": "message_start", "message": self._message([], {"stop_reason": None})})
        yield PING
        for event in self._read(events):
            yield None if event is None else named_event(event)
        ending = {"stop_sequence": None, "stop_details": None, "container": None, **self._ending()}
        told = {"usage": self._usage(), "timings": replies.timings(self.answer.ticket)}
        yield named_event({"type": "message_delta", "delta": ending, **told})
        yield named_event({"type": "message_stop"})

    def _read(self, events: AnswerEvents) -> Iterator[Json | None]:
        for event in events:
            if event is None or not self._asked.generates:
                yield None
            elif isinstance(event[1], Said):
                yield from self._blocks.read(event[1].delta)
        yield from self._blocks.close()

    def _message(self, content: list[Json], ending: Json, **more: Json) -> Json:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": content}
        return {**head, "stop_sequence": None, "stop_details": None, **ending, "usage": self._usage(), **more}

    def _ending(self) -> Json:
        """Why it ended."""
        finished = self.answer.finished
        assert finished is not None
        if not self._asked.generates:
            return {"stop_reason": "max_tokens"}
        if finished.reason == "stop" and finished.stop is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
        if finished.reason in STOP_REASONS:
            return {"stop_reason": STOP_REASONS[finished.reason]}
        cut = self.answer.ticket.generated_tokens == self._asked.question.params.max_tokens
        return {"stop_reason": "max_tokens" if cut else "model_context_window_exceeded"}

    def _usage(self) -> Json:
        """Tokens so far; those of the prompt that were in the cache are counted apart."""
        timings = self.answer.ticket.timings
        generated = timings.generated_tokens if self._asked.generates else 0
        return {
            "input_tokens": timings.prompt_tokens - timings.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": timings.cached_tokens,
            "output_tokens": generated,
            "output_tokens_details": {"thinking_tokens": self.answer.thought_tokens if generated else 0},
            "service_tier": "standard",
        }
