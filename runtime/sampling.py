"""Logits to one token: temperature, truncation, penalties, bias. Pure numpy, no model and no text.

The order is penalties and bias, temperature, top_k, top_p, min_p, draw. The same seed gives the same tokens. How the
vocabulary is gone through is in distribution.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.distribution import (
    Logits,
    draw,
    draw_from_all,
    least_logit,
    log_softmax_at,
    rank_largest,
    reciprocal,
    truncate,
)
from moedge.runtime.kernels.choice import Chooser, Wish
from moedge.runtime.kernels.library import Library
from moedge.runtime.manifest import SAMPLING
from moedge.runtime.thought_limit import ThoughtBudget

MOST_GUESSES = 14  # with the token before them fewer than attention tiles: the bits of one by one; more pay no better


class BrokenLogits(MoedgeError):  # noqa: N818 - it names what was computed
    """The model computed NaN or infinity: a fault of the bundle or the machine, not of the request."""


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop; MoedgeError for a value outside its range.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 are off. The repetition penalty (> 1 discourages) counts
    prompt and output as Hugging Face does; presence and frequency penalties count the output alone as OpenAI does.
    max_tokens None means up to the context's end. logprobs asks for the log probability of every token, which costs a
    pass over the vocabulary; top_logprobs for that of so many alternatives too. prompt_lookup_num_tokens lets up to so
    many tokens be guessed in a step (prompt_lookup.py): it is about time and changes no distribution. Under a `grammar`
    the whole answer is one of it; thinking ends by `thought_budget`.
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
    prompt_lookup_num_tokens: int = 0
    grammar: AnswerGrammar | None = None
    thought_budget: ThoughtBudget | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for name, good, range_ in (
            *((name, bounds.holds(getattr(self, name)), bounds) for name, bounds in SAMPLING.items()),
            ("seed", self.seed is None or self.seed >= 0, "0 or more"),
            ("presence_penalty", isfinite(self.presence_penalty), "finite"),
            ("frequency_penalty", isfinite(self.frequency_penalty), "finite"),
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "1 or more"),
            ("top_logprobs", self.top_logprobs >= 0, "0 or more"),
            (
                "prompt_lookup_num_tokens",
                0 <= self.prompt_lookup_num_tokens <= MOST_GUESSES,
                f"0 to {MOST_GUESSES}",
            ),
            ("stop", all(self.stop), "strings that are not empty"),
            ("logit_bias", all(i >= 0 and isfinite(b) for i, b in self.logit_bias.items()), "finite, for token ids"),
        ):
            if not good:
                raise MoedgeError(f"{name} is {getattr(self, name)!r}, it must be {range_}.")

    @property
    def penalizes(self) -> bool:
        """Whether logits depend on the tokens so far."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def asks_logprobs(self) -> bool:
        """Whether tokens are to be told with their log probabilities."""
        return self.logprobs or self.top_logprobs > 0

    @property
    def truncates(self) -> bool:
        """Whether some tokens are left out."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


class History:
    """Which tokens were seen: `seen` in prompt or output, `said` in the output with `counts` of times, in any order."""

    def __init__(self, vocab_size: int, prompt: Sequence[int] = ()) -> None:
        self._place = np.full(vocab_size, -1, np.int32)  # of a token in what follows
        ids = np.unique(np.asarray(prompt, np.int64))
        self._ids: NDArray[np.int64] = np.concatenate([ids, np.empty(64, np.int64)])
        self._counts = np.zeros(len(self._ids), np.int32)
        self._place[ids] = np.arange(len(ids))
        self._length = len(ids)

    @property
    def seen(self) -> NDArray[np.int64]:
        """Tokens of prompt and output, each once."""
        return self._ids[: self._length]

    @property
    def counts(self) -> NDArray[np.int32]:
        """How often the output has each of `seen`."""
        return self._counts[: self._length]

    def add(self, token_id: int) -> None:
        """Count one token of the output."""
        place = int(self._place[token_id])
        if place < 0:
            place = self._length
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token_id
            self._place[token_id] = place
            self._length += 1
        self._counts[place] += 1


class ChosenToken(NamedTuple):
    """A token; where log probabilities were asked for its own, and the likeliest (token id, log probability) first."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one answer, which begins after `prompt`. Its buffers serve every step.

    With the kernels' `library` the same tokens are chosen in less time.
    """

    def __init__(
        self, params: SamplingParams, vocab_size: int, prompt: Sequence[int] = (), library: Library | None = None
    ) -> None:
        self._params = params
        self._penalizes = params.penalizes
        self._asked = params.asks_logprobs
        self._history = History(vocab_size, prompt if self._penalizes else ())
        self._rng = np.random.default_rng(params.seed)
        self._penalized = np.empty(vocab_size, np.float32)
        self._room = np.empty(vocab_size, np.float32)
        self._chooser = None
        if library is not None and not params.logit_bias:  # which is rare, and numpy's
            self._chooser = Chooser(library, _wish(params), self._room)

    def choose(self, logits: Logits) -> int:
        """The token of `pick`."""
        return self.pick(logits).token_id

    def pick(self, logits: Logits) -> ChosenToken:
        """A token for raw logits [vocab], which are only read; at temperature 0 the highest, ties to the lowest id.

        Tokens with a logit of -inf are never chosen.

        Raises BrokenLogits if they are not numbers, another MoedgeError if a penalty makes them so.
        """
        chance = self._rng.random() if self._params.temperature else 0.0
        token_id = None
        if self._chooser is not None:
            told = (self._history.seen, self._history.counts) if self._penalizes else ()
            token_id = self._chooser.choose(logits, chance, *told)
        if token_id is None:
            token_id = self._choose(logits, chance)
        choice = ChosenToken(token_id, *self._judge(logits, token_id)) if self._asked else ChosenToken(token_id)
        self._count(token_id)
        return choice

    def accept(self, token_id: int) -> ChosenToken:
        """A token that is not chosen: nothing else may come."""
        self._count(token_id)
        certain = ((token_id, 0.0),) if self._params.top_logprobs else ()
        return ChosenToken(token_id, 0.0, certain) if self._asked else ChosenToken(token_id)

    def _choose(self, raw: Logits, chance: float) -> int:
        params = self._params
        logits = penalize(raw, params, self._history, self._penalized)
        if not isfinite(logits.max()):  # NaN spreads to the maximum
            if not isfinite(raw.max()):
                raise BrokenLogits("the model computed logits that are not numbers: run `moedge verify` on the bundle.")
            raise MoedgeError("the penalties make logits infinite: send values nearer to their defaults.")
        if not params.temperature:
            return int(logits.argmax())
        if not params.truncates:
            return draw_from_all(logits, params.temperature, chance, self._room)
        return draw(*distribution(logits, params, self._room), chance)

    def _count(self, token_id: int) -> None:
        """Take note of a token of the answer, for the penalties."""
        if self._penalizes:
            self._history.add(token_id)

    def _judge(self, raw: Logits, token_id: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """The log probability of a token, and the likeliest tokens with theirs, as many as asked for and are left.

        Of the distribution that is drawn from: after penalties, bias, temperature and truncation. Greedy answers draw
        from none; theirs are those of temperature 1.
        """
        params = self._params
        logits = penalize(raw, params, self._history, self._penalized)
        if params.temperature and params.truncates:
            ids, p = distribution(logits, params, self._room)
            found = [*zip(ids.tolist(), np.log(p).tolist(), strict=True)]
            ranked = sorted(found, key=lambda each: -each[1])[: params.top_logprobs]
            return dict(found)[token_id], tuple(ranked)
        others = rank_largest(logits, params.top_logprobs)
        scaled = logits if params.temperature in (0, 1) else (logits - logits.max()) / np.float32(params.temperature)
        logprob, *rest = log_softmax_at(scaled, [token_id, *others], self._room)
        kept = zip(others, rest, strict=True)
        return logprob, tuple((other, chance) for other, chance in kept if isfinite(chance))


def _wish(params: SamplingParams) -> Wish:
    drawn = params.temperature > 0
    return Wish(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition=params.repetition_penalty,
        presence=params.presence_penalty,
        frequency=params.frequency_penalty,
        factor=float(reciprocal(params.temperature)) if drawn else 0.0,
        lowest=float(least_logit(params.temperature, 0)),
        least=float(least_logit(params.temperature, params.min_p)),
    )


@np.errstate(over="ignore", invalid="ignore")  # what overflows is found by `choose`
def penalize(logits: Logits, params: SamplingParams, history: History, out: Logits) -> Logits:
    """The logits [vocab] after repetition, presence and frequency penalties and the bias; `out` if anything applies.

    repetition r: l / r where l > 0, l * r where l < 0, for every token of prompt and output;
    presence a and frequency b: l - a * (c > 0) - b * c with c the token's count in the output.
    What leaves the range of fp32 becomes infinite or NaN, without a warning: `choose` looks.
    """
    if not params.penalizes and not params.logit_bias:
        return logits
    np.copyto(out, logits)
    if params.penalizes:
        seen, counts = history.seen, history.counts
        values = out[seen]
        r = np.float32(params.repetition_penalty)
        if r != 1:
            values = np.where(values > 0, values / r, values * r)
        said = params.presence_penalty + params.frequency_penalty * counts.astype(np.float32)
        out[seen] = values - np.where(counts > 0, said, np.float32(0))
    if params.logit_bias:
        ids = np.fromiter(params.logit_bias, np.int64)
        if ids.max() >= len(out):
            raise MoedgeError(f"logit_bias names token {ids.max()}, the model has {len(out)}.")
        out[ids] += np.fromiter(params.logit_bias.values(), np.float32)
    return out


def distribution(logits: Logits, params: SamplingParams, room: Logits) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that temperature > 0 and truncation leave, ascending, and their probabilities; `room` is used."""
    return truncate(logits, params.temperature, params.top_k, params.top_p, params.min_p, room)
