"""Requests of the OpenAI endpoints as frozen values: everything checked, nothing left to interpret."""

from dataclasses import dataclass, replace
from typing import Any

from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.foreign_fields import pass_foreign
from moedge.edge_server.messages import MAX_TOOLS, Message, Tool, read_messages, read_tools
from moedge.edge_server.response_format import read_response_format
from moedge.edge_server.sampling_fields import read_longest, read_sampling, read_stream_options
from moedge.edge_server.template_fields import read_template_wishes
from moedge.edge_server.tool_choice import choose_tools
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
    most_calls: int | None  # that the answer may hold, None for any number
    params: SamplingParams
    schema: str | None  # that the content must be of
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
    tools = choose_tools(fields, tools)
    if tools and not limits.calls_tools:
        raise bad_field("tools", "this model does not call tools", code="unsupported_parameter")
    most_calls = None if fields.flag("parallel_tool_calls", True) else 1
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields)
    longest = read_longest(fields, "max_completion_tokens")
    params = read_sampling(fields, defaults, limits.vocab_size)
    if longest is not None:
        if fields.take("max_tokens") not in (None, longest):
            raise bad_field("max_completion_tokens", "max_tokens says something else; send one of them")
        params = replace(params, max_tokens=longest)
    schema = read_response_format(fields)
    if schema is not None and tools:
        reason = "a schema beside tools is not supported; send tool_choice none, or no response_format"
        raise bad_field("response_format", reason, code="unsupported_parameter")
    wishes = read_template_wishes(fields)
    pass_foreign(fields)
    fields.done()
    return ChatRequest(model, messages, tools, most_calls, params, schema, wishes, stream, include_usage)


def read_completion(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> CompletionRequest:
    """A completion request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    model = fields.text("model", 256)
    prompt = _prompt(fields, limits)
    stream = fields.flag("stream")
    include_usage = read_stream_options(fields)
    params = read_sampling(fields, defaults, limits.vocab_size)
    for name in ("reasoning_effort", "chat_template_kwargs"):  # no template stands around a bare text
        fields.only(name)
    fields.only("response_format", {"type": "text"})
    pass_foreign(fields)
    fields.done()
    return CompletionRequest(model, prompt, params, stream, include_usage)


def _prompt(fields: Fields, limits: ModelLimits) -> str | tuple[int, ...]:
    value = fields.take("prompt")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]  # a batch of one
    if isinstance(value, str):
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
