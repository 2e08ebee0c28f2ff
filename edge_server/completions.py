"""POST /v1/completions: a text or token ids continued, without a template and without reading what comes."""

from collections.abc import Iterator

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.json_body import read_json
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.request_log import note_ticket
from moedge.edge_server.service import Service
from moedge.edge_server.wire import read_completion
from moedge.runtime.generation import Token
from moedge.runtime.ticket import Ticket


def create_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events.

    Spellings of special tokens in a text stay text; token ids may be any.
    """
    loaded = service.ready()
    engine = loaded.engine
    completion = read_completion(read_json(request), loaded.defaults, loaded.limits())
    loaded.check_model(completion.model)
    prompt = completion.prompt
    with loaded.prompt_in("prompt"):
        token_ids = engine.encode(prompt) if isinstance(prompt, str) else list(prompt)
        ticket = loaded.submit(token_ids, completion.params)
    note_ticket(ticket)
    reply = Reply("text_completion", engine.manifest.name, replies.new_id("cmpl"))
    tokens = replies.watch(ticket, replies.client_left(request))
    if completion.stream:
        parts = _parts(tokens, ticket)
        return replies.stream_response(reply, ticket, None, parts, include_usage=completion.include_usage)
    return replies.json_response(reply.body(**_whole(tokens), **replies.numbers(ticket)))


def _whole(tokens: Iterator[Token | None]) -> Json:
    said = [token for token in tokens if token is not None]
    return _choices("".join(token.text for token in said), said[-1].finish_reason)


def _parts(tokens: Iterator[Token | None], ticket: Ticket) -> Iterator[Json | None]:
    for token in tokens:
        if token is not None and token.finish_reason is not None:
            yield {**_choices(token.text, token.finish_reason), "timings": replies.timings(ticket)}
        elif token is not None and token.text:
            yield _choices(token.text, None)
        else:
            yield None


def _choices(text: str, finish_reason: str | None) -> Json:
    return {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}]}
