"""Requests of the OpenAI endpoints as frozen values: everything checked, nothing left to interpret."""

from dataclasses import dataclass, replace
from typing import Any

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import MAX_TEXT, MAX_TOOLS, Message, Tool, read_messages, read_tools
from moedge.edge_server.sampling_fields import MAX_TOKENS, read_sampling, read_stream_options, refuse_unsupported
from moedge.edge_server.template_fields import read_template_wishes
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.sampling import SamplingParams


@dataclass(frozen=True)
class ModelLimits:
    """What of the model bounds a request."""

    vocab_size: int
    context_length: int
    calls_tools: bool


@dataclass(frozen=True)
class ChatRequest:
    """POST /v1/chat/completions. `tools` are those that the model is shown."""

    model: str | None
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    params: SamplingParams
    wishes: Wishes
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class CompletionRequest:
    """POST /v1/completions. The prompt is a text or token ids."""

    model: str | None
    prompt: str | tuple[int, ...]
    params: SamplingParams
    stream: bool
    include_usage: bool


def read_chat(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> ChatRequest:
    """A chat request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    model = fields.text("model", 256)
    messages = read_messages(fields.take("messages"))
    tools = read_tools(fields.items("tools", MAX_TOOLS))
    choice = fields.take("tool_choice")
    if choice not in (None, "auto", "none"):
        reason = 'this value is not supported; only "auto" or "none" is'
        raise bad_field("tool_choice", reason, code="unsupported_parameter")
    if choice == "none":
        tools = ()
    if tools and not limits.calls_tools:
        raise bad_field("tools", "this model does not call tools", code="unsupported_parameter")
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields, stream)
    longest = fields.integer("max_completion_tokens", 1, MAX_TOKENS)
    params = read_sampling(fields, defaults, limits.vocab_size)
    if longest is not None:
        if fields.take("max_tokens") not in (None, longest):
            raise bad_field("max_completion_tokens", "max_tokens says something else; send one of them")
        params = replace(params, max_tokens=longest)
    wishes = read_template_wishes(fields)
    _refuse_chat_only(fields)
    refuse_unsupported(fields)
    fields.done()
    return ChatRequest(model, messages, tools, params, wishes, stream, include_usage)


def read_completion(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> CompletionRequest:
    """A completion request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    model = fields.text("model", 256)
    prompt = _prompt(fields, limits)
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields, stream)
    params = read_sampling(fields, defaults, limits.vocab_size)
    fields.only("best_of", 1)
    fields.only("echo", False)
    fields.only("suffix", "")
    fields.only("logprobs")
    for name in ("reasoning_effort", "chat_template_kwargs"):  # no template stands around a bare text
        fields.only(name)
    refuse_unsupported(fields)
    fields.done()
    return CompletionRequest(model, prompt, params, stream, include_usage)


def _refuse_chat_only(fields: Fields) -> None:
    fields.only("logprobs", False)
    fields.only("top_logprobs", 0)
    fields.only("response_format", {"type": "text"})
    fields.only("parallel_tool_calls", True)
    fields.only("modalities", ["text"])
    for name in ("functions", "function_call", "audio", "prediction", "verbosity", "web_search_options"):
        fields.only(name)


def _prompt(fields: Fields, limits: ModelLimits) -> str | tuple[int, ...]:
    value = fields.take("prompt")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]  # a batch of one
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise fields.bad("prompt", f"it has {len(value)} characters, at most {MAX_TEXT} are accepted")
        if not value:
            raise fields.bad("prompt", "it is empty")
        return value
    if not isinstance(value, list) or not value:
        raise fields.bad("prompt", "it must be a text or a list of token ids")
    if any(isinstance(item, str | list) for item in value):
        raise fields.bad("prompt", "one prompt a request is supported")
    for token_id in value:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < limits.vocab_size:
            raise fields.bad("prompt", f"token ids must be whole numbers below {limits.vocab_size}")
    return tuple(value)
