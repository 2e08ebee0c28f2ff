"""Requests of a response as frozen values: OpenAI's Responses API, for models that read and write text.

Everything that a chat has too is read as one, wire.py's matter.
"""

import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from moedge.edge_server.errors import INVALID, ApiError
from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.messages import MAX_TEXT
from moedge.edge_server.questions import ChatQuestion, ModelLimits
from moedge.edge_server.replies import Json
from moedge.edge_server.responses.responses_context import conversation
from moedge.edge_server.responses.responses_input import LONGEST_ID, Item, read_input
from moedge.edge_server.responses.responses_names import ELSEWHERE, response_names
from moedge.edge_server.responses.responses_tools import read_response_tools
from moedge.edge_server.sampling_fields import MAX_TOKENS, MOST_LOGPROBS, read_longest
from moedge.edge_server.wire import ChatRequest, read_chat
from moedge.runtime.sampling import SamplingParams

TELL_LOGPROBS = "message.output_text.logprobs"
# What may be asked for beside the text; all but the first is of tools that are not here, or empty.
INCLUDABLE = (
    TELL_LOGPROBS,
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
SUMMARIES = ("auto", "concise", "detailed")
MAX_METADATA = 16
# Of which only these values say what is so anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "background_options": (),
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "moderation": (),
    "image": (),
    "access_programs": (),
    "n": (1,),
}
_REPEATED = ("user", "safety_identifier", "prompt_cache_key")


class KeptContext(Protocol):
    """The responses of one owner that were kept."""

    def context(self, response_id: str) -> list[Item] | None:
        """What a response was made of and made, None if there is none of that id."""

    def item(self, item_id: str) -> Item | None:
        """One item of any of them."""


@dataclass(frozen=True)
class ResponseRequest:
    """POST /v1/responses. `items` are all that the model is to read, `echo` what the answer repeats."""

    chat: ChatRequest
    items: tuple[Item, ...]
    custom: frozenset[str]  # names of custom tools
    store: bool
    truncate: bool
    echo: Json

    @property
    def question(self) -> ChatQuestion:
        """What is asked."""
        return self.chat.question


def read_response(
    data: dict[str, Any], defaults: SamplingParams, limits: ModelLimits, kept: KeptContext
) -> ResponseRequest:
    """A request; ApiError 400 names the field that does not fit."""
    fields = Fields(data)
    fields.text("model", 256)
    for name, accepted in _NEUTRAL.items():
        fields.only(name, *accepted)
    for name in sorted(ELSEWHERE.keys() & set(fields.left)):
        raise bad_field(name, f"say it in {ELSEWHERE[name]}", code="unknown_parameter")
    instructions = fields.text("instructions", MAX_TEXT)
    previous = fields.text("previous_response_id", LONGEST_ID)
    earlier = [] if previous is None else _earlier(previous, kept)
    items = [*earlier, *read_input(fields, earlier, kept.item)]
    tools = read_response_tools(fields)
    text, text_echo = _text(fields)
    effort, reasoning_echo = _reasoning(fields)
    longest = read_longest(fields, "max_output_tokens")
    logprobs, others = read_include(fields.take("include")), fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    echo = {
        "instructions": instructions,
        "max_output_tokens": longest,
        "max_tool_calls": fields.integer("max_tool_calls", 1, MAX_TOKENS),  # of tools that a server runs
        "metadata": _metadata(fields),
        "previous_response_id": previous,
        "reasoning": reasoning_echo,
        "store": fields.flag("store", True),
        "text": text_echo,
        "tool_choice": tools.choice,
        "tools": [*tools.shown],
        "top_logprobs": others or 0,
        "truncation": fields.word("truncation", ("disabled", "auto")) or "disabled",
        **{name: fields.text(name, 512) for name in _REPEATED},
    }
    fields.ignore(("prompt_cache_options",))
    told = {"logprobs": True, "top_logprobs": others} if logprobs or others else {}
    chat = {
        **{name: data[name] for name in fields.left},
        "messages": conversation(items, instructions),
        "max_completion_tokens": longest,
        "reasoning_effort": effort,
        "tools": [*tools.chat],
        "tool_choice": tools.chat_choice,
        **text,
        **told,
    }
    with response_names(tools.shown), _own_names(fields.left, [*echo, "input", "include"]):
        request = read_chat(chat, defaults, limits)
    echo |= {
        "parallel_tool_calls": request.question.most_calls is None,
        "temperature": request.question.params.temperature,
        "top_p": request.question.params.top_p,
    }
    return ResponseRequest(request, tuple(items), tools.custom, echo["store"], echo["truncation"] == "auto", echo)


@contextmanager
def _own_names(left: Collection[str], known: Sequence[str]) -> Iterator[None]:
    """While a chat is read: of fields that were `left` to it and it does not know, the response's may be meant."""
    try:
        yield
    except ApiError as error:
        name = error.param or ""
        near = difflib.get_close_matches(name, known, 1, 0.7)
        if error.code == "unknown_parameter" and name in left and near:
            raise bad_field(name, f"there is no such field; {near[0]} is one", error.code) from None
        raise


def read_include(value: object) -> bool:
    """Whether log probabilities are asked for; ApiError 400 for what OpenAI does not know."""
    if value is None:
        return False
    if not isinstance(value, list):
        raise bad_field("include", "it must be a list")
    for place, name in enumerate(value):
        if name not in INCLUDABLE:
            raise bad_field(f"include[{place}]", f"it must be one of {', '.join(INCLUDABLE)}")
    return TELL_LOGPROBS in value


def _earlier(identifier: str, kept: KeptContext) -> list[Item]:
    context = kept.context(identifier)
    if context is None:
        message = f"Previous response with id {identifier!r} not found: it was not kept, or is not any more."
        raise ApiError(400, message, INVALID, param="previous_response_id", code="previous_response_not_found")
    return context


def _text(fields: Fields) -> tuple[Json, Json]:
    """The form of the text as a chat says it, and as the answer repeats it."""
    text = fields.inner("text", {})
    verbosity, form = text.take("verbosity"), text.take("format")
    text.done()
    echo = {"format": {"type": "text"} if form is None else form, "verbosity": verbosity or "medium"}
    chat: Json = {"verbosity": verbosity}
    if form is None:
        return chat, echo
    described = Fields(form, "text.format")
    kind = described.take("type")
    if kind == "json_schema":
        described.required_text("name", 64)
        inner = {name: described.take(name) for name in ("name", "description", "schema", "strict")}
        described.done()
        chat["response_format"] = {"type": kind, kind: inner}
    else:
        chat["response_format"] = form
    return chat, echo


def _reasoning(fields: Fields) -> tuple[Any, Json]:
    """How much to think, and what the answer repeats; of a thought no summary is made, all of it is told."""
    reasoning = fields.inner("reasoning", {})
    effort = reasoning.take("effort")
    summary = reasoning.word("summary", SUMMARIES) or reasoning.word("generate_summary", SUMMARIES)
    reasoning.only("context", "auto")
    reasoning.only("mode", "standard")
    reasoning.done()
    return effort, {"effort": effort, "summary": summary}


def _metadata(fields: Fields) -> Json:
    pairs = fields.inner("metadata", {})
    names = [*pairs.everything()]
    if len(names) > MAX_METADATA:
        raise fields.bad("metadata", f"it has {len(names)} pairs, at most {MAX_METADATA} are accepted")
    if any(len(name) > 64 for name in names):
        raise fields.bad("metadata", "its names have at most 64 characters")
    return {name: pairs.required_text(name, 512) for name in names}
