"""One model in memory, as endpoints use it: its engine, its scheduler, and what holds where a request says nothing."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError
from moedge.edge_server.guard import current_owner
from moedge.edge_server.models.model_settings import ModelSettings
from moedge.edge_server.questions import ChatQuestion, ModelLimits
from moedge.edge_server.response_format import AskedContent
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.engine import Engine
from moedge.runtime.forms.answer_form import UnfitTool
from moedge.runtime.prompt_lookup import refuse_guesses
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler
from moedge.runtime.ticket import Ticket


@dataclass(frozen=True)
class Loaded:
    """A model in memory that answers under this name, since when (seconds since 1970).

    `wishes` and `defaults` hold where a request says nothing.
    """

    name: str
    engine: Engine
    scheduler: Scheduler
    since: int
    wishes: Wishes
    defaults: SamplingParams

    @classmethod
    def over(cls, engine: Engine, name: str, settings: ModelSettings) -> "Loaded":
        """This engine, with a scheduler of its own.

        MoedgeError for settings that the model cannot hold: guesses, a value outside its range, or a variable in the
        wishes that its template knows nothing of.
        """
        engine.template_variables(settings.wishes)
        if settings.prompt_lookup_num_tokens:
            refuse_guesses(engine.manifest)
        said: dict[str, Any] = {"prompt_lookup_num_tokens": settings.prompt_lookup_num_tokens, **settings.sampling}
        defaults = replace(engine.defaults, **said)
        scheduler = Scheduler(
            engine,
            settings.max_running,
            settings.max_queued,
            settings.stalled_after_s,
            settings.prefix_cache_bytes,
            settings.cache_dir,
            settings.cache_dir_bytes,
        )
        return cls(name, engine, scheduler, int(time.time()), settings.wishes, defaults)

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.engine.manifest.model.context_length

    def limits(self) -> ModelLimits:
        """What of the model bounds a request."""
        facts = self.engine.manifest.model
        return ModelLimits(facts.vocab_size, self.context_length, calls_tools(facts.chat_format))

    def template_variables(self, wishes: Wishes) -> dict[str, Any]:
        """What to render a chat with: the server's own wishes, and over them those of the request."""
        return {**self.engine.template_variables(self.wishes), **self.engine.template_variables(wishes)}

    @contextmanager
    def prompt_in(self, field: str) -> Iterator[None]:
        """While the prompt that `field` of a request gives is read: if it is too long, ApiError 400 that says so.

        Clients know the error by its code or by its first words, which are OpenAI's.
        """
        try:
            yield
        except PromptTooLong as error:
            limit = self.context_length
            message = f"This model's maximum context length is {limit} tokens, and the prompt has {error.has}."
            raise ApiError(400, message, param=field, code="context_length_exceeded") from None

    def answer_grammar(self, token_ids: Sequence[int], question: ChatQuestion) -> AnswerGrammar | None:
        """What the answers to a question are held to, if to anything; ApiError 400 names what of it is unfit."""
        try:
            return self.engine.answer_grammar(token_ids, question.form)
        except UnfitTool as error:
            place = question.declared.index(error.tool)
            param = f"tools[{place}].function.parameters"
            raise ApiError(400, str(error), param=param, code="unsupported_parameter") from None
        except MoedgeError as error:
            raise ApiError(400, str(error), param=question.content.field, code="unsupported_parameter") from None

    def content_grammar(self, content: AskedContent) -> AnswerGrammar | None:
        """That of texts which are content alone; ApiError 400 if it is unfit."""
        try:
            return None if content.grammar is None else self.engine.holding.hold_content(content.grammar)
        except MoedgeError as error:
            raise ApiError(400, str(error), param=content.field, code="unsupported_parameter") from None

    def submit(self, token_ids: Sequence[int], params: SamplingParams, answers: int = 1) -> list[Ticket]:
        """Queue a prompt for so many answers, all of them or none; what was read for one key is no other's.

        PromptTooLong if it exceeds the context; QueueFull; NotAccepting if the server has begun to drain meanwhile.
        """
        limit = self.context_length
        if len(token_ids) > limit:
            raise PromptTooLong(f"{len(token_ids)} tokens", limit)
        several = [_nth(params, number) for number in range(answers)]
        return self.scheduler.submit_all(token_ids, several, current_owner())


def _nth(params: SamplingParams, number: int) -> SamplingParams:
    """Of several answers with one seed each has its own, the first the one that was sent."""
    if params.seed is None or not number:
        return params
    return replace(params, seed=(params.seed + number) % (1 << 64))
