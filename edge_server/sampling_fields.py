"""How to sample, as requests of every endpoint say it, laid over the model's own defaults."""

from dataclasses import replace
from typing import Any

from moedge.edge_server.fields import Fields
from moedge.runtime.manifest import SAMPLING, Bounds
from moedge.runtime.sampling import MOST_GUESSES, SamplingParams

MAX_STOP = 4
MAX_STOP_BYTES = 256
MAX_BIAS = 300
MAX_TOKENS = 1 << 31
MOST_ANSWERS = 4
MOST_LOGPROBS = 20
# Narrower where a request has no use for more: OpenAI's own for the temperature and its two penalties.
BOUNDS = {
    **SAMPLING,
    "temperature": Bounds(0, 2),
    "repetition_penalty": Bounds(0.01, 10),
    "presence_penalty": Bounds(-2, 2),
    "frequency_penalty": Bounds(-2, 2),
}

REPETITION_ALIAS = "repeat_penalty"  # llama.cpp's and Ollama's name


def read_sampling(fields: Fields, defaults: SamplingParams, vocab_size: int) -> SamplingParams:
    """The defaults with what the request sets; ApiError 400 for a value out of bounds."""
    stated: dict[str, Any] = {
        **{
            name: fields.within(name, bounds)
            for name, bounds in BOUNDS.items()
            if name not in ("top_k", "repetition_penalty")
        },
        "top_k": _top_k(fields),
        "repetition_penalty": _repetition_penalty(fields),
        "seed": _seed(fields),
        "logit_bias": _logit_bias(fields, vocab_size),
        "stop": _stop(fields),
        "max_tokens": read_longest(fields, "max_tokens"),
        "prompt_lookup_num_tokens": fields.integer("prompt_lookup_num_tokens", 0, MOST_GUESSES),
    }
    return replace(defaults, **{name: value for name, value in stated.items() if value is not None})


def read_longest(fields: Fields, name: str) -> int | None:
    """The most tokens of an answer; -1 is how several servers spell the context's end, which is the default."""
    value = fields.integer(name, -1, MAX_TOKENS)
    if value == 0:
        raise fields.bad(name, f"it must be a whole number from 1 to {MAX_TOKENS}, or -1")
    return None if value == -1 else value


def read_answers(fields: Fields) -> int:
    """How many answers are asked for."""
    return fields.integer("n", 1, MOST_ANSWERS) or 1


def read_chat_logprobs(fields: Fields, params: SamplingParams) -> SamplingParams:
    """`logprobs` true or false, and beside it `top_logprobs`."""
    asked, others = fields.flag("logprobs"), fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    if others and not asked:
        raise fields.bad("top_logprobs", "it needs logprobs to be true")
    return replace(params, logprobs=asked, top_logprobs=others or 0)


def read_completion_logprobs(fields: Fields, params: SamplingParams) -> SamplingParams:
    """`logprobs` as a number of alternatives; 0 is the tokens' own alone, false none, as newer clients say."""
    if fields.take("logprobs") is False:
        return params
    others = fields.integer("logprobs", 0, MOST_LOGPROBS)
    return params if others is None else replace(params, logprobs=True, top_logprobs=others)


def read_stream_options(fields: Fields) -> bool:
    """Whether a stream shall end with the usage; an answer that is no stream has it always."""
    value = fields.take("stream_options")
    if value is None:
        return False
    options = Fields(value, "stream_options")
    options.ignore(("include_obfuscation",))
    include_usage = options.flag("include_usage")
    options.done()
    return include_usage


def _top_k(fields: Fields) -> int | None:
    """-1 is off in several libraries, 0 here."""
    value = fields.integer("top_k", -1, int(BOUNDS["top_k"].high))
    return 0 if value == -1 else value


def _repetition_penalty(fields: Fields) -> float | None:
    value, alias = (
        fields.within(name, BOUNDS["repetition_penalty"]) for name in ("repetition_penalty", REPETITION_ALIAS)
    )
    if None not in (value, alias) and value != alias:
        raise fields.bad(REPETITION_ALIAS, "repetition_penalty says something else; send one of them")
    return alias if value is None else value


def _seed(fields: Fields) -> int | None:
    """Any 64 bits, read with or without a sign."""
    value = fields.integer("seed", -(1 << 63), (1 << 64) - 1)
    return None if value is None else value % (1 << 64)


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
