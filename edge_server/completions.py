"""POST /v1/completions: texts or token ids continued, without a template and without reading what comes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flask import Response, request

from moedge.edge_server import replies
from moedge.edge_server.answering import watch
from moedge.edge_server.json_body import read_json
from moedge.edge_server.logprobs import TokenLogprob, TokenTexts, completion_logprobs
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.observing.request_log import note_tickets
from moedge.edge_server.replies import Json, Reply
from moedge.edge_server.service import Service
from moedge.edge_server.wire import CompletionRequest, read_completion
from moedge.runtime.generation import Token
from moedge.runtime.ticket import Ticket


class Continuation:
    """One continuation, as it comes: `begins` is said before it."""

    def __init__(self, index: int, ticket: Ticket, begins: str, texts: TokenTexts | None) -> None:
        self.ticket = ticket
        self.text = begins
        self._index = index
        self._texts = texts
        self._told: list[TokenLogprob] = []

    def read(self, token: Token) -> Json | None:
        """What a token adds, None if nothing."""
        offset = len(self.text)
        told = self._tell(token)
        self.text += token.text
        self._told += told or ()
        if not token.text and token.finish_reason is None:
            return None
        return self._json(token.text, told, offset, token.finish_reason)

    def whole(self, finish_reason: str | None) -> Json:
        """All of it."""
        said = sum(len(entry.text) for entry in self._told)
        return self._json(self.text, None if self._texts is None else self._told, len(self.text) - said, finish_reason)

    def _tell(self, token: Token) -> Sequence[TokenLogprob] | None:
        if self._texts is None:
            return None
        self._texts.add(token)
        return self._texts.pass_over(token.text)

    def _json(self, text: str, told: Sequence[TokenLogprob] | None, offset: int, finish_reason: str | None) -> Json:
        logprobs = None if told is None else completion_logprobs(told, offset)
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def create_completion(service: Service) -> Response:
    """Answer one request, whole or as a stream of events.

    Spellings of special tokens in a text stay text; token ids may be any.
    """
    body = read_json(request)
    loaded = service.ready_for(body)
    completion = read_completion(body, loaded.defaults, loaded.limits())
    choices = _submit(loaded, completion)
    tickets = [choice.ticket for choice in choices]
    note_tickets(loaded.name, tickets, completion.answers)
    reply = Reply("text_completion", loaded.name, replies.new_id("cmpl-"))
    tokens = watch(tickets, replies.client_left(request))
    if completion.stream:
        usage = (lambda: _usage(choices, completion.answers)) if completion.include_usage else None
        frames = replies.chunks(reply, _parts(choices, tokens, completion.echo), usage)
        return replies.stream_response(tickets, frames, replies.error_event)
    reasons: dict[int, str | None] = {}
    for event in tokens:
        if event is not None:
            place, token = event
            choices[place].read(token)
            reasons[place] = token.finish_reason
    whole = [choice.whole(reasons[place]) for place, choice in enumerate(choices)]
    usage_json = _usage(choices, completion.answers)
    return replies.json_response(reply.body(choices=whole, usage=usage_json, timings=replies.timings(tickets[0])))


def _submit(loaded: Loaded, completion: CompletionRequest) -> list[Continuation]:
    """The choices in OpenAI's order: all answers to the first prompt, then those to the next."""
    engine = loaded.engine
    loaded.scheduler.check_room(len(completion.prompts) * completion.answers)
    params = replace(completion.params, grammar=loaded.content_grammar(completion.content))
    choices: list[Continuation] = []
    try:
        with loaded.prompt_in("prompt"):
            for prompt in completion.prompts:
                token_ids = engine.encode(prompt) if isinstance(prompt, str) else list(prompt)
                echoed = ""
                if completion.echo:
                    echoed = prompt if isinstance(prompt, str) else engine.tokenizer.decode(prompt)
                for ticket in loaded.submit(token_ids, params, completion.answers):
                    texts = TokenTexts(engine.tokenizer) if params.asks_logprobs else None
                    choices.append(Continuation(len(choices), ticket, echoed, texts))
    except BaseException:
        for choice in choices:
            choice.ticket.cancel()
        raise
    return choices


def _usage(choices: Sequence[Continuation], answers: int) -> Json:
    """The sum over the prompts, each of which has so many answers."""
    parts = [
        replies.usage([choice.ticket for choice in choices[at : at + answers]])
        for at in range(0, len(choices), answers)
    ]
    return replies.add_usage(parts)


def _parts(
    choices: Sequence[Continuation], tokens: Iterator[tuple[int, Token] | None], echo: bool
) -> Iterator[Json | None]:
    yield None  # the headers leave
    for choice in choices if echo else ():
        yield {"choices": [choice.whole(None)]}
    for event in tokens:
        if event is None:
            yield None
            continue
        place, token = event
        said = choices[place].read(token)
        if said is None:
            yield None
        elif token.finish_reason is None:
            yield {"choices": [said]}
        else:
            yield {"choices": [said], "timings": replies.timings(choices[place].ticket)}
