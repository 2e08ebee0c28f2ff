"""POST /v1/chat/completions: a question in OpenAI's form, and its answers as messages or as chunks of them."""

from collections.abc import Iterator, Sequence

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.answering import AnswerEvents, ChatAnswer, Finished, Said, ask, follow
from moedge.edge_server.json_body import read_json
from moedge.edge_server.logprobs import TokenLogprob, chat_logprobs
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.service import Service
from moedge.edge_server.wire import read_chat
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning


def create_chat_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events."""
    body = read_json(request)
    loaded = service.ready_for(body)
    chat = read_chat(body, loaded.defaults, loaded.limits())
    answers = ask(loaded, chat.question)
    tickets = [answer.ticket for answer in answers]
    left = replies.client_left(request)
    kind = "chat.completion.chunk" if chat.stream else "chat.completion"
    reply = Reply(kind, loaded.name, replies.new_id("chatcmpl-"))
    if chat.stream:
        usage = (lambda: _usage(answers)) if chat.include_usage else None
        frames = replies.chunks(reply, _parts(answers, follow(answers, left)), usage)
        return replies.stream_response(tickets, frames, replies.error_event)
    choices = _whole(answers, follow(answers, left))
    return replies.json_response(
        reply.body(choices=choices, usage=_usage(answers), timings=replies.timings(tickets[0]))
    )


def _usage(answers: Sequence[ChatAnswer]) -> Json:
    return replies.usage([answer.ticket for answer in answers], sum(answer.thought_tokens for answer in answers))


def _whole(answers: Sequence[ChatAnswer], events: AnswerEvents) -> list[Json]:
    said: list[list[Said]] = [[] for _ in answers]
    for event in events:
        if event is not None and isinstance(event[1], Said):
            said[event[0]].append(event[1])
    return [_choice(index, parts, answer) for index, (parts, answer) in enumerate(zip(said, answers, strict=True))]


def _choice(index: int, said: Sequence[Said], answer: ChatAnswer) -> Json:
    message = assistant_message(each.delta for each in said)
    if "tool_calls" in message and not message["content"]:
        message["content"] = None
    logprobs = None
    if answer.tells_logprobs:
        told = [entry for each in said for entry in each.logprobs or ()]
        logprobs = chat_logprobs(told)
    assert answer.finished is not None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finished.reason}


def _parts(answers: Sequence[ChatAnswer], events: AnswerEvents) -> Iterator[Json | None]:
    for index in range(len(answers)):
        yield _chunk(index, {"role": "assistant", "content": ""})
    for event in events:
        if event is None:
            yield None
            continue
        index, part = event
        if isinstance(part, Finished):
            yield {**_chunk(index, {}, part.reason), "timings": replies.timings(answers[index].ticket)}
        else:
            yield _chunk(index, _delta_json(part.delta), logprobs=part.logprobs)


def _chunk(
    index: int, delta: Json, finish_reason: str | None = None, logprobs: Sequence[TokenLogprob] | None = None
) -> Json:
    told = chat_logprobs(logprobs) if logprobs else None
    return {"choices": [{"index": index, "delta": delta, "logprobs": told, "finish_reason": finish_reason}]}


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
