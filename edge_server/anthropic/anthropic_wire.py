"""Requests of Anthropic's endpoints as frozen values: everything checked, nothing left to interpret."""

from dataclasses import dataclass, replace
from typing import Any

from moedge.edge_server.anthropic.anthropic_tools import read_anthropic_tools
from moedge.edge_server.anthropic.anthropic_turns import read_conversation
from moedge.edge_server.anthropic.anthropic_wishes import pass_anthropic, read_output, read_thinking
from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.questions import ChatQuestion, ModelLimits
from moedge.edge_server.response_format import AskedContent, json_content
from moedge.edge_server.sampling_fields import MAX_STOP_BYTES, MAX_TOKENS, read_sampling
from moedge.edge_server.tool_choice import check_callable
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.sampling import SamplingParams

MOST_STOPS = 16  # stop sequences


@dataclass(frozen=True)
class MessageRequest:
    """POST /v1/messages. Where it `generates` nothing, only the prompt is read, so that it is known later."""

    question: ChatQuestion
    stream: bool
    shows_thinking: bool
    generates: bool


def read_message(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> MessageRequest:
    """A request for a message; ApiError 400 names the field that does not fit."""
    longest = Fields(data).integer("max_tokens", 0, MAX_TOKENS)
    if longest is None:
        raise bad_field("max_tokens", "it is required")
    fields = Fields({**data, "max_tokens": max(longest, 1)})
    if fields.take("stop") is not None:
        raise bad_field("stop", "there is no such field; stop_sequences is one", code="unknown_parameter")
    sampled = replace(read_sampling(fields, defaults, limits.vocab_size), stop=_stops(fields))
    stream = fields.flag("stream")
    question, shows_thinking = _question(fields, sampled, limits)
    return MessageRequest(question, stream, shows_thinking, longest > 0)


def read_token_count(data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits) -> ChatQuestion:
    """A request to count the tokens of a prompt; ApiError 400 names the field that does not fit."""
    question, _ = _question(Fields(data), defaults, limits)
    return question


def _question(fields: Fields, params: SamplingParams, limits: ModelLimits) -> tuple[ChatQuestion, bool]:
    """What both requests say, with everything else refused, and whether thinking is shown."""
    fields.text("model", 256)
    conversation = read_conversation(fields)
    offer = read_anthropic_tools(fields, conversation.offered)
    check_callable(offer.tools, limits)
    effort, schema = read_output(fields)
    thinking = read_thinking(fields, effort)
    if conversation.continues:
        cannot = {
            "output_config.format": schema is not None,
            "thinking": thinking.asked,
            "tool_choice": offer.must_call,
        }
        for name in (name for name, asked in cannot.items() if asked):
            reason = "the last message begins the answer, which therefore cannot; let it end with a user's message"
            raise bad_field(name, reason, code="unsupported_parameter")
    pass_anthropic(fields)
    question = ChatQuestion(
        conversation.messages,
        offer.tools,
        offer.most_calls,
        params,
        AskedContent(json_content(schema), "output_config.format"),
        Wishes(thinking.effort),
        thinking.budget,
        continues=conversation.continues,
        must_call=offer.must_call,
        declared=offer.declared,
        strict=offer.strict,
    )
    return question, thinking.shown


def _stops(fields: Fields) -> tuple[str, ...]:
    stops = fields.items("stop_sequences", MOST_STOPS) or []
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise fields.bad("stop_sequences", "it must be a list of strings that are not empty")
    if any(len(stop.encode()) > MAX_STOP_BYTES for stop in stops):
        raise fields.bad("stop_sequences", f"a string has more than {MAX_STOP_BYTES} bytes")
    return tuple(stops)
