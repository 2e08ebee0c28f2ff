"""How a request in Anthropic's form wants its answer: how much to think, in which form, by which means.

What this server has not is accepted where it says what is so anyway, and refused by name where it asks for more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moedge.edge_server.anthropic.anthropic_errors import NO_THREADS
from moedge.edge_server.fields import Fields, bad_field
from moedge.edge_server.sampling_fields import MAX_TOKENS
from moedge.runtime.chat.wishes import EFFORTS, Effort

EFFORT: Effort = "medium"  # where thinking is asked for and no effort told
KEEP_THINKING = {"type": "clear_thinking_20251015", "keep": "all"}  # what is so anyway; Claude Code sends it
# Who asks, and for what price: whatever they say, the answer is the same here.
HARMLESS_THERE = ("metadata", "cache_control", "service_tier", "user_profile_id", "workspace_id")
# Where only these values say what is so anyway.
NEUTRAL_THERE: Mapping[str, tuple[Any, ...]] = {
    "container": (),
    "mcp_servers": ([],),
    "context_management": ({}, {"edits": []}, {"edits": [KEEP_THINKING]}),
    "diagnostics": ({}, {"previous_message_id": None}),
    "inference_geo": ("global",),
    "speed": ("standard",),
    "fallbacks": ([],),
    "fallback_credit_token": (),
    "compaction": (),
    "billing_policy": (),
}


@dataclass(frozen=True)
class ThinkingWish:
    """How much to think: an effort, None for the model's own way, and a bound in tokens. `shown`: to the client."""

    effort: Effort | None
    budget: int | None
    shown: bool = True
    asked: bool = False  # for a stated number of tokens


def read_thinking(fields: Fields, effort: Effort | None) -> ThinkingWish:
    """`thinking`, beside the effort that the request states elsewhere; ApiError 400."""
    value = fields.take("thinking")
    if value is None:
        return ThinkingWish(effort, None)
    thinking = Fields(value, "thinking")
    kind = thinking.take("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise bad_field("thinking.type", "it must be enabled, adaptive or disabled", code="unsupported_parameter")
    if kind == "disabled":
        thinking.done()
        return ThinkingWish("none", 0)
    budget = thinking.integer("budget_tokens", 0, MAX_TOKENS) if kind == "enabled" else None
    if kind == "enabled" and budget is None:
        raise thinking.bad("budget_tokens", "it is required")
    display = thinking.word("display", ("summarized", "updates", "omitted"))
    thinking.ignore(("block_binding",))  # what to do with signatures that do not fit: any does
    thinking.done()
    return ThinkingWish(effort or EFFORT, budget, display != "omitted", kind == "enabled")


def read_output(fields: Fields) -> tuple[Effort | None, str | None]:
    """The effort and the JSON schema, as text, of `output_config`, or of `output_format` as it was called before."""
    effort, forms = None, {"output_format": fields.take("output_format")}
    value = fields.take("output_config")
    if value is not None:
        config = Fields(value, "output_config")
        effort = config.word("effort", EFFORTS)
        forms["output_config.format"] = config.take("format")
        config.done()
    schemas = [_schema(Fields(form, where)) for where, form in forms.items() if form is not None]
    if len(schemas) > 1:
        raise bad_field("output_format", "output_config.format says it too; send one of them")
    return effort, schemas[0] if schemas else None


def pass_anthropic(fields: Fields) -> None:
    """Let through what changes nothing; ApiError 400 for what would change the answer, or is no field at all."""
    fields.ignore(HARMLESS_THERE)
    if fields.take("thread") is not None:
        reason = "this server holds no conversations; send the whole of it without this field"
        raise bad_field("thread", reason, code=NO_THREADS)
    for name, values in NEUTRAL_THERE.items():
        fields.only(name, *values)
    fields.done()


def _schema(form: Fields) -> str:
    if form.take("type") != "json_schema":
        raise bad_field(form.path("type"), "it must be json_schema", code="unsupported_parameter")
    schema = form.take("schema")
    if not isinstance(schema, dict):
        raise form.bad("schema", "it must be a JSON schema, which is an object")
    form.done()
    return json.dumps(schema)
