"""From logits to tokens with text: sample, detokenize, find stop strings, decide when it is over.

It is pure: it runs nothing and holds no session. Whoever has one runs what `feed` gives and hands the logits to `take`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moedge.runtime.sampling import History, Logits, SamplingParams, log_softmax_at, sample, top_ids
from moedge.runtime.text_stream import StopStrings, TextStream

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """One sampled token. Joined, the texts are the answer, up to a stop string or the end-of-sequence token.

    `text` is what is safe to show by now; it lags behind while a character or a possible stop string is incomplete.
    Special tokens other than end-of-sequence appear as their spelling. Log probabilities are natural, of the raw
    logits, before penalties and temperature; None where nobody asked for them.
    """

    token_id: int
    text: str
    finish_reason: FinishReason | None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()  # (token id, log probability), the likeliest first


class Generation:
    """One answer in the making: feed, run, take, until a Token has a finish reason.

    `token_ids` are to be run first, after the tokens `before` that were run already and count for the penalties. `room`
    is how many more tokens the context can hold after all of these. `text` detokenizes, from its beginning.
    """

    def __init__(
        self,
        token_ids: Sequence[int],
        params: SamplingParams,
        text: TextStream,
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
        room: int,
        before: Sequence[int] = (),
    ) -> None:
        self.finish_reason: FinishReason | None = None
        self._unfed = list(token_ids)
        self._params = params
        self._text = text
        self._stops = StopStrings(params.stop)
        self._ends: frozenset[int] = frozenset() if params.ignore_eos else eos_token_ids
        # the last token of an answer need not be run: the context has room for one more than it can hold
        self._left = room + 1 if params.max_tokens is None else min(params.max_tokens, room + 1)
        self._history = History(vocab_size, [*before, *token_ids])
        self._rng = np.random.default_rng(params.seed)
        self._asked = params.logprobs or params.top_logprobs > 0

    @property
    def ready(self) -> bool:
        """Whether all tokens were fed, so that the logits after the last are to be taken."""
        return not self._unfed

    def feed(self, most: int) -> list[int]:
        """The next tokens to run, up to `most`: pieces of the prompt at first, then the token that was sampled last."""
        fed, self._unfed = self._unfed[:most], self._unfed[most:]
        return fed

    def take(self, logits: Logits) -> Token:
        """Choose a token from the logits [vocab] after the last token fed, which are only read, and here only.

        MoedgeError if they are not numbers, or no longer once penalties were applied.
        """
        token_id = sample(logits, self._params, self._history, self._rng)
        self._history.add(token_id)
        self._unfed = [token_id]
        self._left -= 1
        stops, ended = self._stops, token_id in self._ends
        shown = "" if ended else stops.push(self._text.push(token_id))
        if (ended or not self._left) and stops.found is None:
            shown += stops.push(self._text.flush()) + stops.flush()
        if ended or stops.found is not None:
            self.finish_reason = "stop"
        elif not self._left:
            self.finish_reason = "length"
        if not self._asked:
            return Token(token_id, shown, self.finish_reason)
        others = top_ids(logits, self._params.top_logprobs)
        logprob, *rest = log_softmax_at(logits, [token_id, *others])
        return Token(token_id, shown, self.finish_reason, logprob, tuple(zip(others, rest, strict=True)))
