"""From logits to tokens with text: sample, detokenize, find stop strings, decide when it is over.

It is pure: it runs nothing and holds no session. Whoever has one runs what `feed` gives and hands the logits to `take`;
`steps.py` does both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import Constraint
from moedge.runtime.distribution import Logits
from moedge.runtime.kernels.library import Library
from moedge.runtime.prompt_lookup import PromptLookup
from moedge.runtime.sampling import MOST_GUESSES, ChosenToken, Sampler, SamplingParams
from moedge.runtime.text_stream import StopStrings, TextStream
from moedge.runtime.thought_limit import ThoughtLimit

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """One sampled token. Joined, the texts are the answer, up to a stop string or the end-of-sequence token.

    `text` is what is safe to show by now; it lags behind while a character or a possible stop string is incomplete.
    Special tokens other than end-of-sequence appear as their spelling. Log probabilities are natural, of the
    distribution that the token was drawn from (`Sampler.judge`); None where nobody asked for them.
    """

    token_id: int
    text: str
    finish_reason: FinishReason | None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()  # (token id, log probability), the likeliest first
    piece: str = ""  # beside log probabilities: the text that is whole with this token, stop strings aside


class Generation:
    """One answer in the making: feed, run, take, until a Token has a finish reason.

    `token_ids` are to be run first, after the tokens `before` that were run already and count for the penalties. `room`
    is how many more tokens the context can hold after all of these. `text` detokenizes, from its beginning. `lookup`,
    which holds the same tokens, guesses what comes; guesses change no answer. Under a `constraint` the answer is one of
    its grammar, unless a limit or a stop string ends it before; a `thought_limit` ends its thinking. What either forces
    is not sampled. The kernels' `library` chooses faster, and the same.
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
        lookup: PromptLookup | None = None,
        constraint: Constraint | None = None,
        thought_limit: ThoughtLimit | None = None,
        library: Library | None = None,
    ) -> None:
        self.finish_reason: FinishReason | None = None
        self.guessed = 0  # tokens that were fed as guesses so far
        self.guessed_right = 0  # of them, those that the answer has
        self._unfed = list(token_ids)
        self._ahead: list[int] = []  # what was fed last behind the tokens that were taken
        self._guesses = 0  # how many of them
        self._lookup = lookup
        self._constraint = constraint
        self._thought_limit = thought_limit
        self._began = False
        self._text = text
        self._stops = StopStrings(params.stop)
        self._ends: frozenset[int] = frozenset() if params.ignore_eos else eos_token_ids
        # the last token of an answer need not be run: the context has room for one more than it can hold
        self._left = room + 1 if params.max_tokens is None else min(params.max_tokens, room + 1)
        self._sampler = Sampler(params, vocab_size, [*before, *token_ids], library)
        self._rows = np.empty((0, vocab_size), np.float32)
        self._asked = params.asks_logprobs

    @property
    def ready(self) -> bool:
        """Whether all tokens were fed, so that the logits after the last are to be taken."""
        return not self._unfed

    @property
    def decodes(self) -> bool:
        """Whether no more than one token, and what is ahead of the answer, is to be fed next."""
        return len(self._unfed) <= 1

    @property
    def ahead(self) -> int:
        """How many of the tokens fed last are ahead of the answer; the logits before each are to be taken too."""
        return len(self._ahead)

    @property
    def unfed(self) -> int:
        """How many tokens are still to be run before the next one is taken."""
        return len(self._unfed)

    def feed(self, most: int, border: int | None = None, beside: int = 0) -> list[int]:
        """The next tokens to run, up to `most`: pieces of the prompt at first, then what was taken last.

        Behind that come tokens that are forced, which the answer will have, or guesses, which it may. They do not cross
        the `border` of `Session`, unless what they stand behind does. Others have rows `beside` in the same step.
        """
        fed, self._unfed = self._unfed[:most], self._unfed[most:]
        self._ahead, self._guesses = [], 0
        if not self._unfed:
            # the last of those ahead is followed by another token: there must be room for both
            room = min(most - len(fed), self._left - 1, MOST_GUESSES)
            if border is not None and len(fed) <= border:
                room = min(room, border - len(fed))
            if forced := self._forced():
                self._ahead = forced[:room]
            elif self._lookup is not None and self._began:
                self._ahead = self._lookup.guess(room, beside)
                self._guesses = len(self._ahead)
        return fed + self._ahead

    def rows(self) -> NDArray[np.float32]:
        """Memory for the logits [1 + ahead, vocab] that are to be taken of what was fed last; [0, vocab] for none."""
        wanted = 1 + self.ahead if self.ready else 0
        if len(self._rows) < wanted:
            self._rows = np.empty((wanted, self._rows.shape[1]), np.float32)
        return self._rows[:wanted]

    @property
    def guesses(self) -> bool:
        """Whether it matters to this answer what steps cost."""
        return self._lookup is not None and self._began

    def note_run(self, rows: int, seconds: float) -> None:
        """The run of what was fed last had so many rows, those of others too, and took so long."""
        if self._lookup is not None and self._began:
            self._lookup.cost.note(rows, seconds)

    def take_rows(self, logits: NDArray[np.float32]) -> list[Token]:
        """The tokens that follow a run: one, and one more for each token ahead that was right, until it is over.

        `logits` [1 + ahead, vocab] are those before each of these and those after the last. Raises as `take` does if
        that happens at the first token; at a later one the tokens before it are given, and the next run raises.
        """
        tokens = [self.take(logits[0])]
        for ahead, row in zip(self._ahead, logits[1:], strict=True):
            if self.finish_reason is not None or tokens[-1].token_id != ahead:
                break
            try:
                tokens.append(self.take(row))
            except MoedgeError:
                break
        self.guessed += self._guesses
        self.guessed_right += min(self._guesses, len(tokens) - 1)
        return tokens

    def take(self, logits: Logits) -> Token:
        """Choose a token from the logits [vocab] after the last token fed, which are only read, and here only.

        MoedgeError if they are not numbers, or no longer once penalties were applied.
        """
        choice = self._choose(logits)
        token_id = choice.token_id
        if self._constraint is not None:
            self._constraint.add(token_id)
        if self._lookup is not None:
            self._lookup.add(token_id)
        self._began = True
        self._unfed = [token_id]
        self._left -= 1
        done = self._constraint is not None and self._constraint.done
        stops, ended = self._stops, token_id in self._ends
        piece = "" if ended else self._text.push(token_id)
        if self._thought_limit is not None:
            self._thought_limit.add(token_id, piece)
        shown = stops.push(piece)
        if (ended or done or not self._left) and stops.found is None:
            piece += (rest := self._text.flush())
            shown += stops.push(rest) + stops.flush()
        if ended or done or stops.found is not None:
            self.finish_reason = "stop"
        elif not self._left:
            self.finish_reason = "length"
        if not self._asked:
            return Token(token_id, shown, self.finish_reason)
        return Token(token_id, shown, self.finish_reason, choice.logprob, choice.top_logprobs, piece)

    def _forced(self) -> list[int]:
        """What must come next: what ends thinking that lasted long enough, or what a grammar forces."""
        if self._thought_limit is not None and self._thought_limit.forced:
            return self._thought_limit.forced
        return [] if self._constraint is None else self._constraint.forced

    def _choose(self, logits: Logits) -> ChosenToken:
        if forced := self._forced():
            return self._sampler.accept(forced[0])
        if self._constraint is None:
            return self._sampler.pick(logits)
        allowed = self._constraint.allowed()
        if not allowed.any():
            raise MoedgeError("the grammar cannot be followed: no token of this model's may come next.")
        return self._sampler.pick(np.where(allowed, logits, np.float32(-np.inf)))
