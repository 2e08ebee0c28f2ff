"""A chat question put to a model, and its answers as they come: what every wire format of a chat stands on.

It renders, queues and reads; how a question is spelled in a body, and an answer in events, is each endpoint's matter.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from moedge.edge_server.call_ids import CallIds
from moedge.edge_server.logprobs import TokenLogprob, TokenTexts
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.observing.request_log import note_tickets
from moedge.edge_server.questions import ChatQuestion
from moedge.edge_server.replies import POLL_SECONDS, ClientLeft
from moedge.runtime.chat.continuation import BegunAnswer
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat.formats import ChatParser
from moedge.runtime.generation import Token
from moedge.runtime.thought_limit import ThoughtBudget
from moedge.runtime.ticket import Failed, Ticket
from moedge.runtime.visible_stop import VisibleStop


@dataclass(frozen=True)
class Said:
    """A part of an answer. With log probabilities, those of the tokens that a content is made of; None without."""

    delta: Delta
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class Finished:
    """The end of an answer: OpenAI's finish reason, and the stop string that ended it, if one did."""

    reason: str
    stop: str | None = None


AnswerEvents = Iterator[tuple[int, Said | Finished] | None]  # as `follow` tells them


class ChatAnswer:
    """One answer. `thought_tokens` counts those of its thinking so far; with `texts` it tells log probabilities."""

    def __init__(
        self,
        ticket: Ticket,
        parser: ChatParser,
        stops: VisibleStop,
        most_calls: int | None,
        texts: TokenTexts | None = None,
    ) -> None:
        self.ticket = ticket
        self.thought_tokens = 0
        self.finished: Finished | None = None
        self._parser = parser
        self._stops = stops
        self._most_calls = most_calls
        self._ids = CallIds()
        self._calls = 0
        self._thinks = False
        self._texts = texts

    @property
    def tells_logprobs(self) -> bool:
        """Whether its tokens are told with their log probabilities."""
        return self._texts is not None

    def read(self, token: Token) -> list[Said]:
        """What is said with a token.

        It ends where the model does, at a stop string, or where something follows the last call that may be made.
        """
        reason: str | None = token.finish_reason
        if self._texts is not None:
            self._texts.add(token)
        deltas = self._stops.push(self._parser.push(token.text))
        if reason is not None:
            deltas += self._stops.push(self._parser.finish()) + self._stops.finish()
        said = []
        for delta in deltas:
            if self._calls == self._most_calls and not isinstance(delta, CallArguments):
                reason = "stop"
                break
            if isinstance(delta, CallStart):
                self._calls += 1
                delta = replace(delta, id=self._ids.name(delta.id))
            self._thinks = isinstance(delta, Reasoning)
            said.append(Said(delta, self._logprobs(delta)))
        self.thought_tokens += self._thinks
        if self._stops.found:
            reason = "stop"
        if reason is not None:
            self.finished = Finished("tool_calls" if self._calls and reason == "stop" else reason, self._stops.string)
        return said

    def _logprobs(self, delta: Delta) -> tuple[TokenLogprob, ...] | None:
        if self._texts is None:
            return None
        if isinstance(delta, Content | Reasoning):
            found = self._texts.pass_over(delta.text)
            return found if isinstance(delta, Content) else ()
        return ()


def encode_question(loaded: Loaded, question: ChatQuestion) -> tuple[list[int], BegunAnswer | None]:
    """The prompt of a question, and if it begins the answer, how far. MoedgeError as of `Engine.encode_chat`."""
    variables, tools = loaded.template_variables(question.wishes), question.tools or None
    if question.continues:
        return loaded.engine.encode_begun(question.messages, tools, variables)
    return loaded.engine.encode_chat(question.messages, tools, True, variables), None


def ask(loaded: Loaded, question: ChatQuestion, field: str = "messages") -> list[ChatAnswer]:
    """Queue a question; its answers are made in the order of the list. `field` of the body holds the conversation.

    ApiError 400 for what the model cannot do or hold; QueueFull, NotAccepting as of `Loaded.submit`.
    """
    engine = loaded.engine
    loaded.scheduler.check_room(question.answers)
    with loaded.prompt_in(field):
        token_ids, begun = encode_question(loaded, question)
        params = replace(
            question.params,
            stop=(),
            grammar=loaded.answer_grammar(token_ids, question),
            thought_budget=_thought_budget(loaded, token_ids, question),
        )
        tickets = loaded.submit(token_ids, params, question.answers)
    note_tickets(loaded.name, tickets, len(tickets))
    answers = []
    for ticket in tickets:
        parser = engine.chat_parser(token_ids, question.tools, begun, question.form)
        stops = VisibleStop(question.params.stop)
        texts = TokenTexts(engine.tokenizer) if params.asks_logprobs else None
        answers.append(ChatAnswer(ticket, parser, stops, question.most_calls, texts))
    return answers


def _thought_budget(loaded: Loaded, token_ids: Sequence[int], question: ChatQuestion) -> ThoughtBudget | None:
    """How long an answer to that prompt may think; whoever wants none gets none, of any template."""
    tokens = question.thinking_budget
    if tokens is None:
        silent = (question.wishes.effort or loaded.wishes.effort) == "none" and not question.wishes.variables
        tokens = 0 if silent else None
    return None if tokens is None else loaded.engine.thought_budget(token_ids, tokens, question.must_call)


def follow(answers: Sequence[ChatAnswer], left: Callable[[], bool]) -> AnswerEvents:
    """What is said in each answer, by its place in the list, and at last its end; None while nothing comes.

    Raises an answer's failure, or ClientLeft; however it ends, nothing is worked on any more.
    """
    tokens = watch([answer.ticket for answer in answers], left)
    try:
        for event in tokens:
            if event is None:
                yield None
                continue
            index, token = event
            answer = answers[index]
            if answer.finished is not None:
                continue
            said = answer.read(token)
            for each in said:
                yield index, each
            if answer.finished is not None:
                answer.ticket.cancel()  # nothing if the model has ended it
                yield index, answer.finished
            elif not said:
                yield None
            if all(answer.finished for answer in answers):
                return
    finally:
        tokens.close()


def watch(tickets: Sequence[Ticket], left: Callable[[], bool]) -> Generator[tuple[int, Token] | None]:
    """Tokens of several tickets by their place, None while there is none; closed early, it cancels what is left.

    Raises a request's failure, or ClientLeft.
    """
    open_, latest = set(range(len(tickets))), 0
    try:
        while open_:
            came = False
            # the one that spoke last is waited for: those that are written together speak together
            for first, place in enumerate(sorted(open_, key=lambda place: (place != latest, place))):
                event = tickets[place].take(POLL_SECONDS if first == 0 else 0)
                if left():
                    raise ClientLeft
                if event is None:
                    continue
                if isinstance(event, Failed):
                    raise event.error
                came, latest = True, place
                if event.finish_reason is not None:
                    open_.remove(place)
                yield place, event
            if not came:
                yield None
    finally:
        for ticket in tickets:
            ticket.cancel()  # nothing if it has finished
