"""Bodies of Anthropic's endpoints, with the bounds that the readers hold them to."""

from moedge.edge_server.anthropic.anthropic_blocks import MOST_BLOCKS
from moedge.edge_server.anthropic.anthropic_tools import TOOL_NAME, WISHES
from moedge.edge_server.anthropic.anthropic_wire import MOST_STOPS
from moedge.edge_server.anthropic.anthropic_wishes import HARMLESS_THERE, NEUTRAL_THERE
from moedge.edge_server.messages import MAX_MESSAGES, MAX_SCHEMA, MAX_TEXT, MAX_TOOLS
from moedge.edge_server.openapi.chat_bodies import sampling
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
from moedge.edge_server.sampling_fields import MAX_STOP_BYTES, MAX_TOKENS
from moedge.runtime.chat.wishes import EFFORTS

STOP_REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded")
MARKED = {"cache_control": ANYTHING}


def block() -> JsonSchema:
    """A block of a message: text, thinking, a call or what it gave. The role decides which may stand there."""
    words = _words()
    found = record({**MARKED, "type": one("tool_reference"), "tool_name": text(128)}, ["type", "tool_name"])
    tool = record({"type": values("tool_reference", None), "name": text(128)}, ["name"])
    return {
        "oneOf": [
            words,
            record(
                {**MARKED, "type": one("thinking"), "thinking": text(MAX_TEXT), "signature": maybe(text(2 * MAX_TEXT))},
                ["type", "thinking"],
            ),
            record({**MARKED, "type": one("redacted_thinking"), "data": text(MAX_TEXT)}, ["type", "data"]),
            record(
                {
                    **MARKED,
                    "type": one("tool_use"),
                    "id": text(256),
                    "name": text(256),
                    "input": OBJECT,
                    "caller": values({"type": "direct"}, None),
                    "toolset_name": {"type": "null"},
                },
                ["type", "id", "name", "input"],
            ),
            record(
                {
                    **MARKED,
                    "type": one("tool_result"),
                    "tool_use_id": text(256),
                    "content": any_of(text(MAX_TEXT), items(any_of(words, found), MOST_BLOCKS), {"type": "null"}),
                    "is_error": maybe(FLAG),
                    "toolset_name": {"type": "null"},
                },
                ["type", "tool_use_id"],
            ),
            record({**MARKED, "type": values("tool_addition", "tool_removal"), "tool": tool}, ["type", "tool"]),
        ]
    }


def _words() -> JsonSchema:
    return record({**MARKED, "type": one("text"), "text": text(MAX_TEXT), "citations": ANYTHING}, ["type", "text"])


def _asked() -> dict[str, JsonSchema]:
    """What a request for a message and one for its tokens have in common, but for the messages."""
    tool = record(
        {
            "type": values("custom", None),
            "name": text(128, pattern=f"^{TOOL_NAME.pattern}$"),
            "input_schema": {**OBJECT, "description": "A JSON Schema of an object."},
            **nullable(
                {
                    "description": text(MAX_SCHEMA),
                    "input_examples": items(ANYTHING, 64),
                    "strict": FLAG,
                    "defer_loading": FLAG,
                    "allowed_callers": values([], ["direct"]),
                }
            ),
            **dict.fromkeys(WISHES, ANYTHING),
        },
        ["name", "input_schema"],
    )
    single = nullable({"disable_parallel_tool_use": FLAG})
    form = record({"type": one("json_schema"), "schema": OBJECT}, ["type", "schema"])
    display = nullable({"display": values("summarized", "omitted", "updates"), "block_binding": ANYTHING})
    return nullable(
        {
            "model": text(256),
            "system": any_of(text(MAX_TEXT), items(_words(), MOST_BLOCKS)),
            "tools": items(tool, MAX_TOOLS),
            "tool_choice": any_of(
                record({"type": values("auto", "any", "none"), **single}, ["type"]),
                record({"type": one("tool"), "name": text(128), **single}, ["type", "name"]),
            ),
            "thinking": any_of(
                record(
                    {"type": one("enabled"), "budget_tokens": whole(0, MAX_TOKENS), **display},
                    ["type", "budget_tokens"],
                ),
                record({"type": one("adaptive"), **display}, ["type"]),
                record({"type": one("disabled")}, ["type"]),
            ),
            "output_config": record(nullable({"effort": values(*EFFORTS), "format": form})),
            "output_format": form,
            **dict.fromkeys(HARMLESS_THERE, ANYTHING),
            **{name: values(*accepted) for name, accepted in NEUTRAL_THERE.items()},
        }
    )


def _turns() -> JsonSchema:
    content = any_of(text(MAX_TEXT), items(reference("AnthropicBlock"), MOST_BLOCKS))
    turn = record(
        {
            "role": values("user", "assistant", "system"),
            "content": content,
            "clear_at": values("next_user_message", "never", None),
            "output_config": values({}, None),
        },
        ["role", "content"],
    )
    return items(turn, MAX_MESSAGES, least=1)


def message_request() -> JsonSchema:
    """POST /v1/messages."""
    chosen = {
        name: schema for name, schema in sampling().items() if name not in ("stop", "max_tokens", "n", "stream_options")
    }
    return record(
        {
            **_asked(),
            **nullable(chosen),
            "max_tokens": whole(0, MAX_TOKENS),
            "stop_sequences": maybe(items(text(MAX_STOP_BYTES, minLength=1), MOST_STOPS)),
            "messages": _turns(),
        },
        ["max_tokens", "messages"],
    )


def count_request() -> JsonSchema:
    """POST /v1/messages/count_tokens."""
    return record({**_asked(), "messages": _turns()}, ["messages"])


def message() -> JsonSchema:
    """A whole answer."""
    said = {
        "oneOf": [
            record({"type": one("text"), "text": text()}, ["type", "text"], more=True),
            record(
                {"type": one("thinking"), "thinking": text(), "signature": text()}, ["type", "thinking", "signature"]
            ),
            record(
                {"type": one("tool_use"), "id": text(), "name": text(), "input": OBJECT},
                ["type", "id", "name", "input"],
                more=True,
            ),
        ]
    }
    counts = dict.fromkeys(("input_tokens", "output_tokens"), whole(0))
    return record(
        {
            "id": text(),
            "type": one("message"),
            "role": one("assistant"),
            "model": text(),
            "content": items(said),
            "stop_reason": values(*STOP_REASONS),
            "stop_sequence": maybe(text()),
            "usage": record(counts, counts, more=True),
        },
        ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
        more=True,
    )


def token_count() -> JsonSchema:
    """How many tokens a prompt has."""
    return answer({"input_tokens": whole(0)})
