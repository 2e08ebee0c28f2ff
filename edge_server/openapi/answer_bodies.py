"""Bodies of answers: what every client can rely on."""

from moedge.edge_server.openapi.json_schemas import (
    ANYTHING,
    FLAG,
    JsonSchema,
    answer,
    any_of,
    items,
    maybe,
    number,
    one,
    record,
    reference,
    text,
    values,
    whole,
)
from moedge.edge_server.sampling_fields import MOST_ANSWERS
from moedge.edge_server.wire import MOST_PROMPTS

COUNT = whole(0)
MILLISECONDS = number(0)
REASONS = ("stop", "length", "tool_calls")


def error() -> JsonSchema:
    """Every failure in OpenAI's shape."""
    told = {"message": text(), "type": text(), "param": maybe(text()), "code": maybe(text())}
    return answer({"error": answer(told)})


def anthropic_error() -> JsonSchema:
    """Every failure in Anthropic's shape."""
    return answer(
        {"type": one("error"), "error": answer({"type": text(), "message": text()}), "request_id": maybe(text())}
    )


def usage() -> JsonSchema:
    """Tokens that a request took."""
    details = ("reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
    return answer(
        {
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "prompt_tokens_details": answer({"cached_tokens": COUNT}),
            "completion_tokens_details": answer(dict.fromkeys(details, COUNT)),
        }
    )


def timings() -> JsonSchema:
    """What the first answer took, in milliseconds and tokens."""
    return answer(
        {
            **dict.fromkeys(("queued_ms", "prompt_ms", "generated_ms"), MILLISECONDS),
            **dict.fromkeys(("cached_tokens", "prompt_tokens", "generated_tokens"), COUNT),
        }
    )


def chat_completion() -> JsonSchema:
    """A whole answer to a chat."""
    entry = {"token": text(), "logprob": number(), "bytes": items(whole(0, 255))}
    logprob = answer({**entry, "top_logprobs": items(answer(entry))})
    call = answer({"id": text(), "type": one("function"), "function": answer({"name": text(), "arguments": text()})})
    message = answer(
        {
            "role": one("assistant"),
            "content": maybe(text()),
            "reasoning_content": text(),
            "tool_calls": items(call, least=1),
        },
        optional=["reasoning_content", "tool_calls"],
    )
    choice = answer(
        {
            "index": COUNT,
            "message": message,
            "logprobs": maybe(answer({"content": items(logprob), "refusal": {"type": "null"}})),
            "finish_reason": values(*REASONS),
        }
    )
    return _completion("chat.completion", items(choice, MOST_ANSWERS, least=1))


def completion() -> JsonSchema:
    """A whole continuation of each prompt."""
    logprobs = answer(
        {
            "tokens": items(text()),
            "token_logprobs": items(maybe(number())),
            "top_logprobs": items(maybe({"type": "object", "additionalProperties": number()})),
            "text_offset": items(COUNT),
        }
    )
    choice = answer(
        {"index": COUNT, "text": text(), "logprobs": maybe(logprobs), "finish_reason": values("stop", "length")}
    )
    return _completion("text_completion", items(choice, MOST_ANSWERS * MOST_PROMPTS, least=1))


def _completion(kind: str, choices: JsonSchema) -> JsonSchema:
    return answer(
        {
            "id": text(),
            "object": one(kind),
            "created": COUNT,
            "model": text(),
            "choices": choices,
            "usage": reference("Usage"),
            "timings": reference("Timings"),
        }
    )


def model() -> JsonSchema:
    """A model that requests may name."""
    return answer(
        {
            **dict.fromkeys(("id", "owned_by", "root"), text()),
            "object": one("model"),
            **dict.fromkeys(("created", "context_length", "max_model_len"), COUNT),
            "loaded": values(True, False, "loading"),
        }
    )


def anthropic_model() -> JsonSchema:
    """The same in Anthropic's shape, for clients that send anthropic-version."""
    return record(
        {"type": one("model"), **dict.fromkeys(("id", "display_name", "created_at"), text())}, ["id", "type"], True
    )


def props() -> JsonSchema:
    """What a model is and how it is served."""
    sampling: JsonSchema = {"type": "object", "additionalProperties": number()}
    kept = [f"{tier}_{name}" for tier in ("memory", "disk") for name in ("bytes", "limit_bytes")]
    counts = (
        *("context_length", "vocab_size", "layers", "moe_layers", "experts", "experts_per_token", "total_parameters"),
        *("active_parameters", "expert_bits", "max_running", "max_queued", "total_slots"),
    )
    texts = ("model", "moedge_version", "model_type", "scheme", "plan", "device_profile", "cache_type", "model_alias")
    return answer(
        {
            **dict.fromkeys((*texts, "model_path", "build_info"), text()),
            **dict.fromkeys(("aliases", "models"), items(text())),
            **dict.fromkeys(counts, COUNT),
            **dict.fromkeys(("runs_together", "has_chat_template", "thinks", "calls_tools"), FLAG),
            **dict.fromkeys(("chat_format", "chat_template"), maybe(text())),
            "sampling_defaults": sampling,
            "prefix_cache": answer(dict.fromkeys(kept, COUNT)),
            "default_generation_settings": answer({"n_ctx": COUNT, "params": sampling}),
            "modalities": answer({"vision": one(False), "audio": one(False)}),
        }
    )


def experts() -> JsonSchema:
    """How often each expert was chosen."""
    return answer(
        {
            "object": one("experts"),
            "model": text(),
            "counted": FLAG,
            "reason": maybe(text()),
            **dict.fromkeys(("moe_layers", "experts", "experts_per_token", "tokens", "resident_bytes"), COUNT),
            "layers": items(COUNT),
            "counts": any_of(items(items(COUNT)), text()),
        }
    )


def tokens() -> JsonSchema:
    """A text or a chat as token ids."""
    piece = answer({"id": COUNT, "piece": any_of(text(), items(whole(0, 255)))})
    return answer(
        {
            "tokens": any_of(items(COUNT), items(piece)),
            "count": COUNT,
            "max_model_len": COUNT,
            "token_strs": items(text()),
        },
        optional=["token_strs"],
    )


def anything() -> JsonSchema:
    """An object that another specification describes."""
    return {"type": "object", "additionalProperties": ANYTHING}
