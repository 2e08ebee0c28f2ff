"""A chat with one engine: the messages so far and a session that follows them. Knows no terminal and no HTTP.

Every turn renders the whole conversation again and feeds what the session does not hold yet.
"""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.delta import Delta
from moedge.runtime.engine import Engine
from moedge.runtime.generation import FinishReason, Token
from moedge.runtime.program import Interrupted
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Session
from moedge.runtime.visible_stop import VisibleStop


@dataclass(frozen=True)
class Call:
    """A tool call as the model made it; `arguments` is JSON text, which may be broken."""

    id: str
    name: str
    arguments: str


class Answer:
    """One answer while the model writes it: iterate for its tokens, then read the numbers.

    The model works on a thread of its own, so that `stop` takes effect within an operator, even during a long prompt.
    """

    def __init__(self, engine: Engine, session: Session, token_ids: Sequence[int], params: SamplingParams) -> None:
        self.prompt_ids = token_ids
        self.prompt_tokens = len(token_ids)
        rest = session.resume(token_ids)
        self.cached_tokens = session.length
        self.generated_tokens = 0
        self.finish_reason: FinishReason | None = None  # None: it was stopped
        self._session = session
        self._tokens = engine.generate(rest, params, session)
        self._events: queue.SimpleQueue[Token | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="moedge-answer", daemon=True)
        self._start = self._first = self._last = time.perf_counter()

    def __iter__(self) -> Iterator[Token]:
        self._start = time.perf_counter()
        self._thread.start()
        try:
            while self.finish_reason is None:
                event = self._events.get()
                if isinstance(event, Interrupted):
                    return
                if isinstance(event, BaseException):
                    raise event
                self._count(event)
                yield event
        finally:
            if self.finish_reason is None:
                self.stop()
            self._thread.join()

    def stop(self) -> None:
        """End the answer; what came before stays in the session."""
        self._session.interrupt()

    def end(self) -> None:
        """End the answer where it is, as the model would have."""
        self.stop()
        self.finish_reason = "stop"

    @property
    def prompt_seconds(self) -> float:
        """Until the first token."""
        return self._first - self._start

    @property
    def tokens_per_second(self) -> float:
        """Of generation, the first token apart; 0 if there was no second one."""
        return (self.generated_tokens - 1) / (self._last - self._first) if self.generated_tokens > 1 else 0.0

    def _count(self, token: Token) -> None:
        self._last = time.perf_counter()
        if self.generated_tokens == 0:
            self._first = self._last
        self.generated_tokens += 1
        self.finish_reason = token.finish_reason

    def _work(self) -> None:
        try:
            for token in self._tokens:
                self._events.put(token)
        except BaseException as error:  # whatever it is, the thread that waits must learn of it
            self._events.put(error)


class Conversation:
    """Messages in OpenAI's form, and the session that has read them; `variables` are those of `encode_chat`."""

    def __init__(
        self,
        engine: Engine,
        params: SamplingParams,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._params = params
        self._system = system
        self._tools = tools
        self._variables = variables
        self._session = engine.session()
        self.messages: list[dict[str, Any]] = []
        self.clear()

    def clear(self) -> None:
        """Forget all messages but the system's."""
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def say(self, text: str) -> None:
        """Add a message of the user."""
        self.messages.append({"role": "user", "content": text})

    def give_result(self, call: Call, text: str) -> None:
        """Add what a tool returned."""
        self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": text})

    def begin(self) -> Answer:
        """The next answer, to be streamed; MoedgeError if the conversation no longer fits the context."""
        prompt = self._engine.encode_chat(self.messages, self._tools, variables=self._variables)
        return Answer(self._engine, self._session, prompt, replace(self._params, stop=()))

    def stream(self, answer: Answer) -> Iterator[Delta]:
        """The answer's parts as they come; at its end, or wherever it was stopped, it joins the messages."""
        parser = self._engine.chat_parser(answer.prompt_ids, self._tools)
        stops = VisibleStop(self._params.stop)
        parts: list[Delta] = []
        try:
            for token in answer:
                parts += (deltas := stops.push(parser.push(token.text)))
                yield from deltas
                if stops.found:
                    answer.end()
            parts += (deltas := stops.push(parser.finish()) + stops.finish())
            yield from deltas
        finally:
            message = assistant_message(parts)
            if answer.finish_reason != "stop":
                message.pop("tool_calls", None)  # nobody will answer a call that broke off
            self.messages.append(message)

    def open_calls(self) -> list[Call]:
        """The tool calls of the last answer."""
        made = self.messages[-1].get("tool_calls", []) if self.messages else []
        return [Call(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in made]
