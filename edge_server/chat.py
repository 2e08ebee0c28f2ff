"""POST /v1/chat/completions: messages to tokens, tokens to a message or to chunks of one."""

from collections.abc import Generator, Iterator
from dataclasses import replace

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.call_ids import CallIds
from moedge.edge_server.json_body import read_json
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.request_log import note_ticket
from moedge.edge_server.service import Service
from moedge.edge_server.wire import read_chat
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat.formats import ChatParser
from moedge.runtime.generation import Token
from moedge.runtime.ticket import Ticket
from moedge.runtime.visible_stop import VisibleStop


def create_chat_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events."""
    loaded = service.ready()
    engine = loaded.engine
    chat = read_chat(read_json(request), loaded.defaults, loaded.limits())
    loaded.check_model(chat.model)
    variables = loaded.template_variables(chat.wishes)
    with loaded.prompt_in("messages"):
        token_ids = engine.encode_chat(chat.messages, chat.tools or None, True, variables)
        grammar = loaded.answer_grammar(token_ids, chat.schema)
        ticket = loaded.submit(token_ids, replace(chat.params, stop=(), grammar=grammar))
    parser = engine.chat_parser(token_ids, chat.tools)
    stops = VisibleStop(chat.params.stop)
    note_ticket(ticket)
    deltas = _deltas(replies.watch(ticket, replies.client_left(request)), parser, stops, chat.most_calls)
    kind = "chat.completion.chunk" if chat.stream else "chat.completion"
    reply = Reply(kind, engine.manifest.name, replies.new_id("chatcmpl"))
    if chat.stream:
        first, parts = _chunk({"role": "assistant", "content": ""}), _parts(deltas, ticket)
        return replies.stream_response(reply, ticket, first, parts, include_usage=chat.include_usage)
    return replies.json_response(reply.body(**_whole(deltas), **replies.numbers(ticket)))


def _deltas(
    tokens: Generator[Token | None], parser: ChatParser, stops: VisibleStop, most_calls: int | None
) -> Iterator[Delta | str | None]:
    """Deltas, None while nothing comes, at the end the finish reason.

    It ends where the model does, at a stop string, or where something follows the last call that may be made.
    """
    ids, calls = CallIds(), 0
    for token in tokens:
        if token is None:
            yield None
            continue
        reason: str | None = token.finish_reason
        deltas = stops.push(parser.push(token.text))
        if reason is not None:
            deltas += stops.push(parser.finish()) + stops.finish()
        for delta in deltas:
            if calls == most_calls and not isinstance(delta, CallArguments):
                reason = "stop"
                break
            if isinstance(delta, CallStart):
                calls += 1
                yield replace(delta, id=ids.name(delta.id))
            else:
                yield delta
        if not deltas:
            yield None
        if stops.found:
            reason = "stop"
        if reason is not None:
            tokens.close()
            yield "tool_calls" if calls and reason == "stop" else reason
            return


def _whole(deltas: Iterator[Delta | str | None]) -> Json:
    *parts, finish_reason = (delta for delta in deltas if delta is not None)
    message = assistant_message(part for part in parts if not isinstance(part, str))
    if "tool_calls" in message and not message["content"]:
        message["content"] = None
    return {"choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}]}


def _parts(deltas: Iterator[Delta | str | None], ticket: Ticket) -> Iterator[Json | None]:
    for delta in deltas:
        if delta is None:
            yield None
        elif isinstance(delta, str):
            yield {**_chunk({}, delta), "timings": replies.timings(ticket)}
        else:
            yield _chunk(_delta_json(delta))


def _chunk(delta: Json, finish_reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}


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
