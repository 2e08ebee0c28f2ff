"""Bodies of OpenAI's Responses API, with the bounds that the readers hold them to."""

from moedge.edge_server.messages import MAX_MESSAGES, MAX_SCHEMA, MAX_TEXT, MAX_TOOLS
from moedge.edge_server.openapi.chat_bodies import sampling, templates
from moedge.edge_server.openapi.json_schemas import (
    ANYTHING,
    FLAG,
    OBJECT,
    JsonSchema,
    answer,
    any_of,
    items,
    maybe,
    nullable,
    one,
    record,
    reference,
    text,
    values,
    whole,
)
from moedge.edge_server.responses.responses_input import LONGEST_ID, ROLES
from moedge.edge_server.responses.responses_request import INCLUDABLE, MAX_METADATA, SUMMARIES
from moedge.edge_server.responses.responses_tools import CHOICES
from moedge.edge_server.sampling_fields import MAX_TOKENS, MOST_LOGPROBS
from moedge.runtime.chat.wishes import EFFORTS

# Clients send items back as they came, with notes of the service.
KIND = {"type": text(64)}


def item() -> JsonSchema:
    """An item of the input: a message, a call, what it gave, thinking, or the id of one that is kept here."""
    part = any_of(
        record({"type": values("input_text", "output_text"), "text": text(MAX_TEXT)}, ["type", "text"], more=True),
        record({"type": one("refusal"), "refusal": text(MAX_TEXT)}, ["type", "refusal"], more=True),
    )
    thought = record({"type": text(), "text": text(MAX_TEXT)}, ["text"])
    call = {"call_id": text(LONGEST_ID), "name": text(256)}
    said = any_of(text(MAX_TEXT), items(part))
    return any_of(
        record(
            {"type": values("message", None), "role": values(*ROLES), "content": said}, ["role", "content"], more=True
        ),
        _kind("reasoning", {"summary": items(thought), "content": maybe(items(thought))}, ()),
        _kind("function_call", {**call, "arguments": text(MAX_TEXT)}, ("call_id", "name", "arguments")),
        _kind("custom_tool_call", {**call, "input": text(MAX_TEXT)}, ("call_id", "name", "input")),
        *(
            _kind(kind, {"call_id": call["call_id"], "output": said}, ("call_id", "output"))
            for kind in ("function_call_output", "custom_tool_call_output")
        ),
        record({"type": values("item_reference", None), "id": text(LONGEST_ID)}, ["id"]),
    )


def _kind(kind: str, properties: dict[str, JsonSchema], required: tuple[str, ...]) -> JsonSchema:
    return record({"type": one(kind), **properties}, ["type", *required], more=True)


def response_request() -> JsonSchema:
    """POST /v1/responses."""
    chosen = {name: schema for name, schema in sampling().items() if name not in ("max_tokens", "n")}
    thinking = {name: schema for name, schema in templates().items() if name not in ("reasoning_effort", "reasoning")}
    return record({**nullable(chosen), **nullable(thinking), **_own()}, more=True)


def count_request() -> JsonSchema:
    """POST /v1/responses/input_tokens: the same request, of which nothing is generated."""
    return response_request()


def _own() -> dict[str, JsonSchema]:
    function = record(
        {
            "type": one("function"),
            "name": text(64),
            **nullable({"description": text(MAX_SCHEMA), "parameters": OBJECT, "strict": FLAG}),
        },
        ["type", "name"],
        more=True,
    )
    custom = record(
        {"type": one("custom"), "name": text(64), "description": maybe(text(MAX_SCHEMA)), "format": ANYTHING},
        ["type", "name"],
        True,
    )
    named = record({"type": values("function", "custom"), "name": text(64)}, ["type", "name"])
    allowed = record(
        {"type": one("allowed_tools"), "mode": values("auto", "required"), "tools": items(named, MAX_TOOLS)},
        ["type", "mode", "tools"],
    )
    form = any_of(
        record({"type": values("text", "json_object")}, ["type"]),
        record(
            {
                "type": one("json_schema"),
                "name": text(64),
                "schema": OBJECT,
                "strict": ANYTHING,
                "description": ANYTHING,
            },
            ["type", "name", "schema"],
        ),
    )
    pairs = {**OBJECT, "additionalProperties": text(512), "maxProperties": MAX_METADATA}
    return nullable(
        {
            "model": text(256),
            "input": any_of(text(), items(reference("ResponseItem"), MAX_MESSAGES)),
            "instructions": text(MAX_TEXT),
            "previous_response_id": text(LONGEST_ID),
            "store": FLAG,
            "max_output_tokens": any_of(whole(1, MAX_TOKENS), one(-1)),
            "max_tool_calls": whole(1, MAX_TOKENS),
            "top_logprobs": whole(0, MOST_LOGPROBS),
            "include": items(values(*INCLUDABLE)),
            "text": record(nullable({"format": form, "verbosity": values("medium")})),
            "reasoning": record(nullable({"effort": values(*EFFORTS), "summary": values(*SUMMARIES)}), more=True),
            "tools": items(any_of(function, custom), MAX_TOOLS),
            "tool_choice": any_of(values(*CHOICES), named, allowed),
            "parallel_tool_calls": FLAG,
            "truncation": values("auto", "disabled"),
            "background": values(False),
            "metadata": pairs,
            "user": text(512),
            "safety_identifier": text(512),
            "prompt_cache_key": text(512),
            "service_tier": ANYTHING,
        }
    )


def response() -> JsonSchema:
    """A response, whole or as it was kept."""
    counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), whole(0))
    needed = {
        "id": text(),
        "object": one("response"),
        "created_at": whole(0),
        "status": values("completed", "incomplete", "failed"),
        "error": maybe(OBJECT),
        "incomplete_details": maybe(answer({"reason": text()})),
        "model": text(),
        "output": items(record(KIND, ["type"], more=True)),
        "usage": maybe(record(counts, counts, more=True)),
    }
    return record(needed, needed, more=True)


def deleted() -> JsonSchema:
    """That a response is kept no longer."""
    return answer({"id": text(), "object": one("response"), "deleted": one(True)})


def item_page() -> JsonSchema:
    """A page of the items that a response was made of."""
    return answer(
        {
            "object": one("list"),
            "data": items(record(KIND, ["type"], more=True)),
            "first_id": maybe(text()),
            "last_id": maybe(text()),
            "has_more": FLAG,
        }
    )


def input_count() -> JsonSchema:
    """How many tokens an input has."""
    return answer({"object": one("response.input_tokens"), "input_tokens": whole(0)})
