"""POST /v1/completions: a text or token ids continued, without a template and without reading what comes."""

import time
from collections.abc import Callable, Iterator

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.json_body import read_json
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.service import ClientLeft, Service, watch
from moedge.edge_server.streams import client_left, stream_response
from moedge.edge_server.wire import CompletionRequest, read_completion
from moedge.runtime.ticket import Ticket


def create_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events.

    Spellings of special tokens in a text stay text; token ids may be any.
    """
    service.check_ready()
    engine = service.loaded.engine
    completion = read_completion(read_json(request), engine.defaults, service.limits())
    service.check_model(completion.model)
    prompt = completion.prompt
    token_ids = engine.tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else list(prompt)
    ticket = service.submit(token_ids, completion.params, "prompt")
    reply = Reply("text_completion", engine.manifest.name, replies.new_id("cmpl"))
    left = client_left(request)
    if completion.stream:
        return stream_response(_chunks(ticket, completion, reply, left), ticket)
    return replies.json_response(_whole(ticket, reply, left))


def _choice(text: str, finish_reason: str | None) -> Json:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _whole(ticket: Ticket, reply: Reply, left: Callable[[], bool]) -> Json:
    tokens = [token for token in watch(ticket, left) if token is not None]
    choice = _choice("".join(token.text for token in tokens), tokens[-1].finish_reason)
    return reply.body(choices=[choice], usage=replies.usage(ticket), timings=replies.timings(ticket))


def _chunks(ticket: Ticket, completion: CompletionRequest, reply: Reply, left: Callable[[], bool]) -> Iterator[bytes]:
    usage = {"usage": None} if completion.include_usage else {}
    try:
        yield replies.KEEP_ALIVE  # headers leave with the first bytes
        spoke = time.monotonic()
        for token in watch(ticket, left):
            if token is not None and token.finish_reason is not None:
                choice = _choice(token.text, token.finish_reason)
                yield replies.event(reply.body(choices=[choice], **usage, timings=replies.timings(ticket)))
            elif token is not None and token.text:
                yield replies.event(reply.body(choices=[_choice(token.text, None)], **usage))
            elif time.monotonic() - spoke >= replies.KEEP_ALIVE_SECONDS:
                yield replies.KEEP_ALIVE
            else:
                continue
            spoke = time.monotonic()
        if completion.include_usage:
            yield replies.event(reply.body(choices=[], usage=replies.usage(ticket)))
        yield replies.DONE
    except ClientLeft:
        return
    except Exception as error:
        yield replies.error_event(error)
