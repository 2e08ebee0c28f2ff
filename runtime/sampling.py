"""Logits to one token: temperature, truncation, penalties, bias. Pure numpy, no model and no text.

The order is penalties and bias, temperature, top_k, top_p, min_p, draw. The same seed gives the same tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import SAMPLING

Logits = NDArray[np.float32]


class BrokenLogits(MoedgeError):  # noqa: N818 - it names what was computed
    """The model computed NaN or infinity: a fault of the bundle or the machine, not of the request."""


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop; MoedgeError for a value outside its range.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 are off. The repetition penalty (> 1 discourages) counts
    prompt and output as Hugging Face does; presence and frequency penalties count the output alone as OpenAI does.
    max_tokens None means up to the context's end. logprobs asks for the log probability of every token, which costs a
    pass over the vocabulary; top_logprobs for that of so many alternatives too.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id to what is added to its logit
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for name, good, range_ in (
            *((name, bounds.holds(getattr(self, name)), bounds) for name, bounds in SAMPLING.items()),
            ("seed", self.seed is None or self.seed >= 0, "0 or more"),
            ("presence_penalty", isfinite(self.presence_penalty), "finite"),
            ("frequency_penalty", isfinite(self.frequency_penalty), "finite"),
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "1 or more"),
            ("top_logprobs", self.top_logprobs >= 0, "0 or more"),
            ("stop", all(self.stop), "strings that are not empty"),
            ("logit_bias", all(i >= 0 and isfinite(b) for i, b in self.logit_bias.items()), "finite, for token ids"),
        ):
            if not good:
                raise MoedgeError(f"{name} is {getattr(self, name)!r}, it must be {range_}.")

    @property
    def penalizes(self) -> bool:
        """Whether logits depend on the tokens so far."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


class History:
    """Which tokens were seen: `present` [vocab] in prompt or output, `counts` [vocab] in the output."""

    def __init__(self, vocab_size: int, prompt: Sequence[int] = ()) -> None:
        self.present = np.zeros(vocab_size, np.bool_)
        self.counts = np.zeros(vocab_size, np.int32)
        self.present[np.asarray(prompt, np.int64)] = True

    def add(self, token_id: int) -> None:
        """Count one token of the output."""
        self.present[token_id] = True
        self.counts[token_id] += 1


def log_softmax_at(logits: Logits, token_ids: Sequence[int]) -> list[float]:
    """Natural logarithms of the probabilities that the raw logits [vocab] give these tokens."""
    top = float(logits.max())
    log_sum = top + float(np.log(np.exp(logits - top).sum(dtype=np.float64)))
    return [float(logits[i]) - log_sum for i in token_ids]


def top_ids(logits: Logits, count: int) -> list[int]:
    """The `count` most likely tokens, the likeliest first, ties by id."""
    if count <= 0:
        return []
    count = min(count, len(logits))
    threshold = np.partition(logits, -count)[-count]
    candidates = np.flatnonzero(logits >= threshold)
    order = np.argsort(-logits[candidates], kind="stable")
    return [int(i) for i in candidates[order[:count]]]


@np.errstate(over="ignore")  # what overflows is found by `sample`
def penalize(logits: Logits, params: SamplingParams, history: History) -> Logits:
    """The logits [vocab] after repetition, presence and frequency penalties and the bias; a copy if anything applies.

    repetition r: l / r where l > 0, l * r where l < 0, for every token of prompt and output;
    presence a and frequency b: l - a * (c > 0) - b * c with c the token's count in the output.
    What leaves the range of fp32 becomes infinite or NaN, without a warning: `sample` looks.
    """
    if params.penalizes:
        logits = logits.copy()
        if params.repetition_penalty != 1:
            seen = logits[history.present]
            with np.errstate(over="ignore", invalid="ignore"):
                r = np.float32(params.repetition_penalty)
                logits[history.present] = np.where(seen > 0, seen / r, seen * r)
        said = np.flatnonzero(history.counts)
        logits[said] -= params.presence_penalty + params.frequency_penalty * history.counts[said].astype(np.float32)
    if params.logit_bias:
        ids = np.fromiter(params.logit_bias, np.int64)
        if ids.max() >= len(logits):
            raise MoedgeError(f"logit_bias names token {ids.max()}, the model has {len(logits)}.")
        logits = logits.copy()
        logits[ids] += np.fromiter(params.logit_bias.values(), np.float32)
    return logits


def distribution(logits: Logits, params: SamplingParams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that temperature > 0 and truncation leave, in ascending order, and their probabilities."""
    shifted = logits - logits.max()
    ids = np.flatnonzero(shifted >= -50 * params.temperature)  # what is below e^-50 of the top is never drawn
    shifted = shifted[ids]
    if 0 < params.top_k < len(ids):
        kept = shifted >= np.partition(shifted, -params.top_k)[-params.top_k]  # ties stay, as in Hugging Face
        ids, shifted = ids[kept], shifted[kept]
    p = np.exp(shifted.astype(np.float64) / params.temperature)
    p /= p.sum()
    if params.top_p < 1:
        kept = _nucleus(shifted, p, params.top_p)
        ids, p = ids[kept], p[kept]
    if params.min_p > 0:
        kept = p >= params.min_p * p.max()
        ids, p = ids[kept], p[kept]
    return ids, p / p.sum()


def _nucleus(logits: Logits, p: NDArray[np.float64], mass: float) -> NDArray[np.int64]:
    """Ascending indices of the smallest set of likeliest entries that holds at least `mass`.

    The logits say which is likelier: where they are close, probabilities tie.
    """
    # a sort of a whole vocabulary takes ten times as long as the rest: try the likeliest thousand first
    head = logits >= np.partition(logits, -1024)[-1024] if len(p) > 1024 else np.ones(len(p), np.bool_)
    candidates = np.flatnonzero(head)
    if p[candidates].sum() < mass:
        candidates = np.arange(len(p))
    order = candidates[np.argsort(-logits[candidates], kind="stable")]
    count = int(np.searchsorted(np.cumsum(p[order]), mass)) + 1
    return np.sort(order[:count])


def sample(logits: Logits, params: SamplingParams, history: History, rng: np.random.Generator) -> int:
    """Choose a token from raw logits [vocab]; at temperature 0 the highest, ties to the lowest id.

    Raises BrokenLogits if they are not numbers, another MoedgeError if a penalty makes them so.
    """
    raw, logits = logits, penalize(logits, params, history)
    if not isfinite(logits.max()):  # NaN spreads to the maximum
        if not isfinite(raw.max()):
            raise BrokenLogits("the model computed logits that are not numbers: run `moedge verify` on the bundle.")
        raise MoedgeError("the penalties make logits infinite: send values nearer to their defaults.")
    if params.temperature == 0:
        return int(logits.argmax())
    ids, p = distribution(logits, params)
    index = int(np.searchsorted(np.cumsum(p), rng.random(), side="right"))
    return int(ids[min(index, len(ids) - 1)])  # rounding may leave the last sum below the draw
