"""From a prompt to a stream of tokens with text: the loop of prefill, sample, detokenize, decide whether to stop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from moedge.devices.errors import MoedgeError
from moedge.runtime.sampling import History, Logits, SamplingParams, log_softmax_at, sample, top_ids
from moedge.runtime.text_stream import StopStrings

if TYPE_CHECKING:
    from moedge.runtime.session import Session

FinishReason = Literal["stop", "length"]


class BrokenLogits(MoedgeError):  # noqa: N818 - it names what was computed
    """The model computed NaN or infinity: a fault of the bundle or the machine, not of the request."""


@dataclass(frozen=True)
class Token:
    """One sampled token. Joined, the texts are the answer, up to a stop string or the end-of-sequence token.

    `text` is what is safe to show by now; it lags behind while a character or a possible stop string is incomplete.
    Special tokens other than end-of-sequence appear as their spelling. Log probabilities are natural, of the raw
    logits, before penalties and temperature.
    """

    token_id: int
    text: str
    finish_reason: FinishReason | None
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()  # (token id, log probability), the likeliest first


def steps(session: "Session", token_ids: Sequence[int], params: SamplingParams) -> Iterator[Token | None]:
    """See `Session.steps`."""
    feed = list(token_ids) if session.pending is None else [session.pending, *token_ids]
    session.check(feed)
    return _steps(session, feed, params)


def _steps(session: "Session", feed: list[int], params: SamplingParams) -> Iterator[Token | None]:
    engine = session.engine
    rng = np.random.default_rng(params.seed)
    history = History(engine.manifest.model.vocab_size, session.tokens + feed)
    text, stops = engine.tokenizer.stream(), StopStrings(params.stop)
    logits = None
    for count, logits in enumerate(session.chunks(feed)):
        if logits is None and count > 0:
            yield None
    assert logits is not None
    generated = 0
    while True:
        token_id = _choose(logits, params, history, rng)
        history.add(token_id)
        session.pending = token_id
        generated += 1
        ended = token_id in engine.eos_token_ids and not params.ignore_eos
        shown = "" if ended else stops.push(text.push(token_id))
        full = generated == params.max_tokens or session.length == session.capacity
        if (ended or full) and stops.found is None:
            shown += stops.push(text.flush()) + stops.flush()
        reason: FinishReason | None = "stop" if ended or stops.found is not None else "length" if full else None
        yield _token(token_id, shown, reason, logits, params)
        if reason is not None:
            return
        logits = session.decode(token_id)


def _choose(logits: Logits, params: SamplingParams, history: History, rng: np.random.Generator) -> int:
    if not np.isfinite(logits.max()):  # NaN spreads to the maximum
        raise BrokenLogits("the model computed logits that are not numbers: run `moedge verify` on the bundle.")
    return sample(logits, params, history, rng)


def _token(token_id: int, text: str, reason: FinishReason | None, logits: Logits, params: SamplingParams) -> Token:
    others = top_ids(logits, params.top_logprobs)
    logprob, *rest = log_softmax_at(logits, [token_id, *others])
    return Token(token_id, text, reason, logprob, tuple(zip(others, rest, strict=True)))
