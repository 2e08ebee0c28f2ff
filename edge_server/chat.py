"""POST /v1/chat/completions: messages to tokens, tokens to a message or to chunks of one."""

import time
from collections.abc import Callable, Iterator

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.json_body import read_json
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.service import ClientLeft, Service, watch
from moedge.edge_server.streams import client_left, stream_response
from moedge.edge_server.wire import ChatRequest, read_chat
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat.format import ChatParser
from moedge.runtime.ticket import Ticket


def create_chat_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events."""
    service.check_ready()
    engine = service.loaded.engine
    chat = read_chat(read_json(request), engine.defaults, service.limits())
    service.check_model(chat.model)
    token_ids = engine.encode_chat(chat.messages, chat.tools or None)
    parser = engine.chat_parser(token_ids, chat.tools)
    ticket = service.submit(token_ids, chat.params, "messages")
    kind = "chat.completion.chunk" if chat.stream else "chat.completion"
    reply = Reply(kind, engine.manifest.name, replies.new_id("chatcmpl"))
    left = client_left(request)
    if chat.stream:
        return stream_response(_chunks(ticket, chat, reply, parser, left), ticket)
    return replies.json_response(_whole(ticket, reply, parser, left))


def _deltas(ticket: Ticket, parser: ChatParser, left: Callable[[], bool]) -> Iterator[Delta | str | None]:
    """Deltas, None while nothing comes, at the end the finish reason."""
    called = False
    for token in watch(ticket, left):
        deltas = parser.push(token.text) if token is not None else []
        if token is not None and token.finish_reason is not None:
            deltas += parser.finish()
        called = called or any(isinstance(delta, CallStart) for delta in deltas)
        yield from deltas
        if not deltas:
            yield None
        if token is not None and token.finish_reason is not None:
            yield "tool_calls" if called and token.finish_reason == "stop" else token.finish_reason


def _whole(ticket: Ticket, reply: Reply, parser: ChatParser, left: Callable[[], bool]) -> Json:
    reasoning: list[str] = []
    content: list[str] = []
    calls: list[Json] = []
    finish_reason = None
    for delta in _deltas(ticket, parser, left):
        match delta:
            case Reasoning(text):
                reasoning.append(text)
            case Content(text):
                content.append(text)
            case CallStart(_, identifier, name):
                calls.append({"id": identifier, "type": "function", "function": {"name": name, "arguments": ""}})
            case CallArguments(index, text):
                calls[index]["function"]["arguments"] += text
            case str():
                finish_reason = delta
    message: Json = {"role": "assistant", "content": "".join(content) if content or not calls else None}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return reply.body(choices=[choice], usage=replies.usage(ticket), timings=replies.timings(ticket))


def _chunks(
    ticket: Ticket, chat: ChatRequest, reply: Reply, parser: ChatParser, left: Callable[[], bool]
) -> Iterator[bytes]:
    def chunk(delta: Json, finish_reason: str | None = None, **more: Json) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        # OpenAI: with include_usage every chunk but the last has a usage of null
        usage = {"usage": None} if chat.include_usage else {}
        return replies.event(reply.body(choices=[choice], **usage, **more))

    try:
        yield chunk({"role": "assistant", "content": ""})
        spoke = time.monotonic()
        for delta in _deltas(ticket, parser, left):
            if delta is None:
                if time.monotonic() - spoke < replies.KEEP_ALIVE_SECONDS:
                    continue
                yield replies.KEEP_ALIVE
            elif isinstance(delta, str):
                yield chunk({}, delta, timings=replies.timings(ticket))
            else:
                yield chunk(_delta_json(delta))
            spoke = time.monotonic()
        if chat.include_usage:
            yield replies.event(reply.body(choices=[], usage=replies.usage(ticket)))
        yield replies.DONE
    except ClientLeft:
        return
    except Exception as error:
        yield replies.error_event(error)


def _delta_json(delta: Delta) -> Json:
    match delta:
        case Reasoning(text):
            return {"reasoning_content": text}
        case Content(text):
            return {"content": text}
        case CallStart(index, identifier, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": identifier, "type": "function", "function": function}]}
        case CallArguments(index, text):
            # clients join the chunks of a call, its id too: it stands in the first alone
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
