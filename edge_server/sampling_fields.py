"""How to sample, as requests of both endpoints say it, laid over the model's own defaults."""

from dataclasses import replace
from typing import Any

from moedge.edge_server.fields import Fields
from moedge.runtime.manifest import SAMPLING, Bounds
from moedge.runtime.sampling import SamplingParams

MAX_STOP = 4
MAX_STOP_BYTES = 64
MAX_BIAS = 300
MAX_TOKENS = 1 << 31
# Narrower where a request has no use for more: OpenAI's own for the temperature.
BOUNDS = {**SAMPLING, "temperature": Bounds(0, 2), "repetition_penalty": Bounds(0.01, 10)}

# Change nothing here: who asks, and what a provider should keep.
HARMLESS = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")


def read_sampling(fields: Fields, defaults: SamplingParams, vocab_size: int) -> SamplingParams:
    """The defaults with what the request sets; ApiError 400 for a value out of bounds."""
    stated: dict[str, Any] = {
        **{name: fields.within(name, bounds) for name, bounds in BOUNDS.items()},
        "seed": fields.integer("seed", 0, (1 << 63) - 1),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "logit_bias": _logit_bias(fields, vocab_size),
        "stop": _stop(fields),
        "max_tokens": fields.integer("max_tokens", 1, MAX_TOKENS),
    }
    return replace(defaults, **{name: value for name, value in stated.items() if value is not None})


def refuse_unsupported(fields: Fields) -> None:
    """Fields of both endpoints that would change the answer."""
    fields.only("n", 1)
    fields.only("service_tier", "auto", "default")
    fields.ignore(HARMLESS)


def read_stream_options(fields: Fields, stream: bool) -> bool:
    """Whether a stream shall end with the usage."""
    value = fields.take("stream_options")
    if value is None:
        return False
    if not stream:
        raise fields.bad("stream_options", "it needs stream to be true")
    options = Fields(value, "stream_options")
    options.ignore(("include_obfuscation",))
    include_usage = options.flag("include_usage")
    options.done()
    return include_usage


def _stop(fields: Fields) -> tuple[str, ...] | None:
    value = fields.take("stop")
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise fields.bad("stop", "it must be a string or a list of strings that are not empty")
    if len(stops) > MAX_STOP or any(len(stop.encode()) > MAX_STOP_BYTES for stop in stops):
        raise fields.bad("stop", f"at most {MAX_STOP} strings of {MAX_STOP_BYTES} bytes are accepted")
    return tuple(stops)


def _logit_bias(fields: Fields, vocab_size: int) -> dict[int, float] | None:
    value = fields.take("logit_bias")
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > MAX_BIAS:
        raise fields.bad("logit_bias", f"it must be an object of at most {MAX_BIAS} token ids")
    biases = Fields(value, "logit_bias")
    bias = {}
    for name in value:
        if not (name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < vocab_size):
            raise fields.bad("logit_bias", f"{name[:32]!r} is not a token id below {vocab_size}")
        bias[int(name)] = biases.number(name, -100, 100) or 0.0
    return bias
