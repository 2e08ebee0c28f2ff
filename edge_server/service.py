"""What stands behind the routes: the engine and its scheduler, and whether they are loading, ready or draining."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError, unavailable
from moedge.edge_server.questions import ModelLimits
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.engine import Engine
from moedge.runtime.prompt_lookup import refuse_guesses
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler
from moedge.runtime.thought_limit import ThoughtBudget
from moedge.runtime.ticket import Ticket

NO_WISHES = Wishes()


@dataclass(frozen=True)
class Loaded:
    """An engine that answers, since when (seconds since 1970), and what holds where a request says nothing."""

    engine: Engine
    scheduler: Scheduler
    since: int
    wishes: Wishes
    defaults: SamplingParams

    @property
    def name(self) -> str:
        """What the model is called in answers."""
        return self.engine.manifest.name

    def limits(self) -> ModelLimits:
        """What of the model bounds a request."""
        facts = self.engine.manifest.model
        return ModelLimits(facts.vocab_size, facts.context_length, calls_tools(facts.chat_format))

    def template_variables(self, wishes: Wishes) -> dict[str, Any]:
        """What to render a chat with: the server's own wishes, and over them those of the request."""
        return {**self.engine.template_variables(self.wishes), **self.engine.template_variables(wishes)}

    def check_model(self, model: str | None) -> None:
        """ApiError 404 for any model but the one that is served; a request need not name one."""
        name = self.engine.manifest.name
        if model not in (None, name):
            message = f"There is no model {model!r}: this server has {name!r}."
            raise ApiError(404, message, param="model", code="model_not_found")

    @contextmanager
    def prompt_in(self, field: str) -> Iterator[None]:
        """While the prompt that `field` of a request gives is read: if it is too long, ApiError 400 that says so.

        Clients know the error by its code or by its first words, which are OpenAI's.
        """
        try:
            yield
        except PromptTooLong as error:
            limit = self.engine.manifest.model.context_length
            message = f"This model's maximum context length is {limit} tokens, and the prompt has {error.has}."
            raise ApiError(400, message, param=field, code="context_length_exceeded") from None

    def answer_grammar(self, token_ids: Sequence[int], schema: str | None) -> AnswerGrammar | None:
        """The grammar of answers whose content is of that schema, if there is one; ApiError 400 if it is unfit."""
        if schema is None:
            return None
        try:
            return self.engine.answer_grammar(token_ids, schema)
        except MoedgeError as error:
            raise ApiError(400, str(error), param="response_format", code="unsupported_parameter") from None

    def thought_budget(self, token_ids: Sequence[int], tokens: int | None) -> ThoughtBudget | None:
        """How long answers to that prompt may think, None: without end; ApiError 400 if nobody can tell."""
        if tokens is None:
            return None
        try:
            return self.engine.thought_budget(token_ids, tokens)
        except MoedgeError as error:
            raise ApiError(400, str(error), param="thinking_budget", code="unsupported_parameter") from None

    def submit(self, token_ids: Sequence[int], params: SamplingParams, answers: int = 1) -> list[Ticket]:
        """Queue a prompt for so many answers.

        PromptTooLong if it exceeds the context; QueueFull; NotAccepting if the server has begun to drain meanwhile.
        """
        limit = self.engine.manifest.model.context_length
        if len(token_ids) > limit:
            raise PromptTooLong(f"{len(token_ids)} tokens", limit)
        several = [_nth(params, number) for number in range(answers)]
        return [self.scheduler.submit(token_ids, each) for each in several]  # until submit_all


def _nth(params: SamplingParams, number: int) -> SamplingParams:
    """Of several answers with one seed each has its own, the first the one that was sent."""
    if params.seed is None or not number:
        return params
    return replace(params, seed=(params.seed + number) % (1 << 64))


class Service:
    """Starts out loading; `open` makes it ready, `stop_accepting` draining."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        self.draining = False

    def open(
        self,
        engine: Engine,
        max_running: int = 2,
        max_queued: int = 16,
        stalled_after_s: float = 600.0,
        wishes: Wishes = NO_WISHES,
        prompt_lookup_num_tokens: int = 0,
    ) -> None:
        """Serve this engine from now on; see Scheduler for the bounds, SamplingParams for the guesses.

        MoedgeError if there are too many of those, or if the model's template knows nothing of a variable in `wishes`.
        Both hold for every chat that says nothing else.
        """
        engine.template_variables(wishes)
        if prompt_lookup_num_tokens:
            refuse_guesses(engine.manifest)
        defaults = replace(engine.defaults, prompt_lookup_num_tokens=prompt_lookup_num_tokens)
        scheduler = Scheduler(engine, max_running, max_queued, stalled_after_s)
        self._loaded = Loaded(engine, scheduler, int(time.time()), wishes, defaults)

    @property
    def loaded(self) -> Loaded:
        """The engine; ApiError 503 while it loads."""
        if self._loaded is None:
            raise unavailable("The model is being loaded.", "loading")
        return self._loaded

    @property
    def alive(self) -> bool:
        """Whether a restart would not help."""
        return self._loaded is None or self._loaded.scheduler.healthy

    @property
    def idle(self) -> bool:
        """Whether no request is being worked on."""
        return self._loaded is None or self._loaded.scheduler.idle

    def ready(self) -> Loaded:
        """What takes a request that is sent now; ApiError 503 unless one would be taken."""
        if self.draining:
            raise unavailable("The server is shutting down.", "shutting_down")
        if not self.loaded.scheduler.healthy:
            raise unavailable("The engine has stopped.", "engine_failed")
        return self.loaded

    def ready_for(self, body: Mapping[str, Any]) -> Loaded:
        """What takes the request of this body: the model that it names, or the one that is served.

        ApiError 404 if there is none of that name, 503 as of `ready`.
        """
        loaded = self.ready()
        name = body.get("model")
        if isinstance(name, str):  # whatever else it is, its endpoint refuses
            loaded.check_model(name)
        return loaded

    def stop_accepting(self) -> None:
        """Drain: what was accepted goes on. Takes no lock, so a signal handler may call it."""
        self.draining = True
        if self._loaded is not None:
            self._loaded.scheduler.stop_accepting()

    def close(self) -> None:
        """End what is left."""
        self.draining = True
        if self._loaded is not None:
            self._loaded.scheduler.close()
