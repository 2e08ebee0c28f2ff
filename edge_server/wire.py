"""Requests of the OpenAI endpoints as frozen values: everything checked, nothing left to interpret."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.foreign_fields import pass_foreign
from moedge.edge_server.messages import MAX_TOOLS, read_messages, read_tools
from moedge.edge_server.questions import ChatQuestion, ModelLimits
from moedge.edge_server.response_format import AskedContent, read_content
from moedge.edge_server.sampling_fields import (
    read_answers,
    read_chat_logprobs,
    read_completion_logprobs,
    read_longest,
    read_sampling,
    read_stream_options,
)
from moedge.edge_server.template_fields import read_template_wishes, read_thinking_budget
from moedge.edge_server.tool_choice import check_callable, choose_tools, declared_tools, must_call, strict_tools
from moedge.runtime.sampling import SamplingParams

MOST_PROMPTS = 16  # of one completion request


@dataclass(frozen=True)
class ChatRequest:
    """POST /v1/chat/completions. A stream tells its usage at the end where `include_usage` says so."""

    question: ChatQuestion
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class CompletionRequest:
    """POST /v1/completions. Each prompt, a text or token ids, is answered so many times, after itself if `echo`."""

    prompts: tuple[str | tuple[int, ...], ...]
    answers: int
    params: SamplingParams
    content: AskedContent
    echo: bool
    stream: bool
    include_usage: bool


def read_chat(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> ChatRequest:
    """A chat request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    fields.text("model", 256)
    messages = read_messages(fields.take("messages"))
    tools = choose_tools(fields, read_tools(fields.items("tools", MAX_TOOLS)))
    check_callable(tools, limits)
    most_calls = None if fields.flag("parallel_tool_calls", True) else 1
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields)
    longest = read_longest(fields, "max_completion_tokens")
    params = read_chat_logprobs(fields, read_sampling(fields, defaults, limits.vocab_size))
    if longest is not None:
        if fields.take("max_tokens") not in (None, longest):
            raise bad_field("max_completion_tokens", "max_tokens says something else; send one of them")
        params = replace(params, max_tokens=longest)
    question = ChatQuestion(
        messages,
        tools,
        most_calls,
        params,
        read_content(fields),
        read_template_wishes(fields),
        read_thinking_budget(fields),
        read_answers(fields),
        must_call=bool(tools) and must_call(fields),
        declared=declared_tools(fields),
        strict=strict_tools(fields),
    )
    pass_foreign(fields)
    fields.done()
    return ChatRequest(question, stream, include_usage)


def read_completion(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> CompletionRequest:
    """A completion request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    fields.text("model", 256)
    prompts = _prompts(fields, limits)
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields)
    params = read_completion_logprobs(fields, read_sampling(fields, defaults, limits.vocab_size))
    answers = read_answers(fields)
    fields.only("best_of", 1, answers)
    echo = fields.flag("echo")
    if echo and params.logprobs:
        raise bad_field("echo", "log probabilities of a prompt are not computed", code="unsupported_parameter")
    for name in ("reasoning_effort", "chat_template_kwargs"):  # no template stands around a bare text
        fields.only(name)
    content = read_content(fields)
    pass_foreign(fields)
    fields.done()
    return CompletionRequest(prompts, answers, params, content, echo, stream, include_usage)


def _prompts(fields: Fields, limits: ModelLimits) -> tuple[str | tuple[int, ...], ...]:
    """One prompt or a list of such."""
    value = fields.take("prompt")
    if isinstance(value, list) and value and all(isinstance(item, str | list) for item in value):
        if len(value) > MOST_PROMPTS:
            raise fields.bad("prompt", f"it has {len(value)} prompts, at most {MOST_PROMPTS} are accepted")
        return tuple(_prompt(fields, item, limits) for item in value)
    return (_prompt(fields, value, limits),)


def _prompt(fields: Fields, value: Any, limits: ModelLimits) -> str | tuple[int, ...]:
    if isinstance(value, str):
        if not value:
            raise fields.bad("prompt", "it is empty")
        return value
    if not isinstance(value, list) or not value:
        raise fields.bad("prompt", "it must be a text or a list of token ids, or a list of such")
    return read_token_ids(value, "prompt", limits)


def read_token_ids(value: Sequence[Any], where: str, limits: ModelLimits) -> tuple[int, ...]:
    """The list that stands there as token ids of the model; ApiError 400 if it holds anything else."""
    for token_id in value:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < limits.vocab_size:
            raise bad_field(where, f"token ids must be whole numbers below {limits.vocab_size}")
    return tuple(value)
