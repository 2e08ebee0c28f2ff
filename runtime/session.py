"""One timeline of a model: the tokens so far, their cache, and the runs that append to them.

How tokens are chosen is `generation.py`, what a run is `program.py`. A session serves one thread at a time; sessions
of one engine may run side by side.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.distribution import Logits
from moedge.runtime.feed import Segment
from moedge.runtime.integrity import HashCheck
from moedge.runtime.pace import UNIT, cut, cut_before_end
from moedge.runtime.program import Interrupted, Program
from moedge.runtime.prompt_too_long import PromptTooLong


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two timelines begin with alike."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def begin_at(length: int, prompt: int, unit: int) -> int:
    """The longest length up to this one from which the rest of a prompt is run as it is where all of it is run."""
    return min(length, prompt - 1) if unit == 1 else max(0, min(length, prompt - UNIT)) // unit * unit


class PromptEnd(NamedTuple):
    """Where a prompt ended, in tokens, and the logits [vocab] there: another answer to it begins with them."""

    length: int
    logits: Logits


class Session:
    """One timeline. `pending` is a token that was sampled but has not been fed: the next generation feeds it first.

    `chunk` is how many tokens of a prompt one run takes. `prompt_end` is that of the last prompt, if whoever ran it
    noted it. `mark`: other prompts part from this one there, so that states are kept there. Where `hashes` are still
    being checked, runs begin before that is over, but no logits leave: what a damaged bundle computes is seen by
    nobody.
    """

    def __init__(self, program: Program, chunk: int, hashes: HashCheck | None = None) -> None:
        self.tokens: list[int] = []
        self.pending: int | None = None
        self.prompt_end: PromptEnd | None = None
        self.mark = 0
        self.chunk = chunk
        self.cache = program.open_cache()
        self._program = program
        self._hashes = hashes
        self._lane = program.open_lane(self.cache)
        self._logits: Logits = self._lane.logits[0]  # [vocab], after the last token

    @property
    def length(self) -> int:
        """How many tokens the cache holds."""
        return len(self.tokens)

    @property
    def capacity(self) -> int:
        """How many tokens the cache can hold: the bundle's context length."""
        return self.cache.capacity

    @property
    def border(self) -> int | None:
        """After how many more tokens one run would give all of its tokens other angles; None: never (again).

        Tokens that may be taken back must not be run across it together with one that stays.
        """
        left = self._program.rotary_switch - self.length
        return left if left >= 0 and self._program.rotary_switch else None

    @property
    def cache_bytes(self) -> int:
        """Bytes of memory that the tokens in the cache take."""
        return self.cache.nbytes(self.length)

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens in chunks; the logits [vocab] after the last. When interrupted, whole chunks stay in the cache.

        MoedgeError before any work if the tokens do not fit the context or the vocabulary.
        """
        self.check(token_ids)
        begun = 0
        while (count := self.piece(len(token_ids) - begun)) < len(token_ids) - begun:
            self.append(token_ids[begun : begun + count])
            begun += count
        return self.run(token_ids[begun:]).copy()

    def decode(self, token_id: int) -> Logits:
        """Append one token; the logits [vocab] after it."""
        return self.prefill([token_id])

    def rollback(self, length: int) -> None:
        """Forget all tokens from position `length` on, and the pending one.

        A model with convolutions or windows keeps all of its state for the last few hundred tokens only, one with
        recurrent layers for some lengths: see `Cache.reachable`.
        """
        if not 0 <= length <= self.length:
            raise MoedgeError(f"cannot roll back to {length} tokens, the session holds {self.length}.")
        if (nearest := self.cache.reachable(length)) != length:
            raise MoedgeError(
                f"cannot roll back to {length} tokens: this model keeps its state at {nearest}, go there."
            )
        del self.tokens[length:]
        self.cache.trim(length)
        self.pending = None
        if self.prompt_end is not None and self.prompt_end.length > length:
            self.prompt_end = None

    def resume(self, token_ids: Sequence[int]) -> list[int]:
        """Roll back to the longest prefix of `token_ids` in the cache; the rest is to be fed.

        It is at least one token, unless they are the prompt whose end was noted.
        """
        self.rollback(len(token_ids) if self.ends(token_ids) else self.reusable(token_ids))
        return list(token_ids[self.length :])

    def common(self, token_ids: Sequence[int]) -> int:
        """How many tokens of the cache `token_ids` begins with."""
        return common(self.tokens, token_ids)

    def reusable(self, token_ids: Sequence[int]) -> int:
        """How many tokens `resume` would leave in the cache."""
        return self.cache.reachable(self.common(token_ids[:-1]))

    def ends(self, token_ids: Sequence[int]) -> bool:
        """Whether these tokens are the prompt whose end was noted, which can be gone back to."""
        end = self.prompt_end
        if end is None or end.length != len(token_ids) or self.cache.reachable(end.length) != end.length:
            return False
        return self.common(token_ids) == end.length

    def shared(self, token_ids: Sequence[int]) -> int:
        """How many tokens of a prompt may be taken from here, so that what follows has the bits of reading them all.

        That is exact where the plan is native; elsewhere a prompt in other pieces differs by rounding.
        """
        if self.ends(token_ids):
            return len(token_ids)
        prompt, unit = len(token_ids), self._program.cut_unit
        length = begin_at(self.common(token_ids), prompt, unit)
        while (nearest := self.cache.reachable(length)) != length:
            length = begin_at(nearest, prompt, unit)
        return length

    @property
    def proved(self) -> bool:
        """Whether the bundle that computed it is known to be intact."""
        return self._hashes is None

    def take_over(self, other: "Session", length: int) -> None:
        """Into an empty session: the first `length` tokens, a length to go back to, of another one; copies them."""
        self.cache.copy_from(other.cache, length)
        self.tokens = other.tokens[:length]
        if other.prompt_end is not None and other.prompt_end.length <= length:
            self.prompt_end = other.prompt_end

    def adopt(self, token_ids: Sequence[int]) -> None:
        """The cache of this empty session was filled with these tokens."""
        self.tokens = list(token_ids)

    def fork(self) -> "Session":
        """A session of its own with the same tokens; copies what the cache holds."""
        other = Session(self._program, self.chunk, self._hashes)
        other.take_over(self, self.length)
        other.pending = self.pending
        return other

    def check(self, token_ids: Sequence[int]) -> None:
        """Raise MoedgeError unless these tokens can be appended."""
        if not token_ids and self.prompt_end is not None and self.prompt_end.length == self.length:
            return
        if not token_ids:
            raise MoedgeError("there is no token to start from: give a prompt of at least one token.")
        for token_id in (min(token_ids), max(token_ids)):
            if not 0 <= token_id < self._program.vocab_size:
                raise MoedgeError(f"token id {token_id} is outside the vocabulary of {self._program.vocab_size}.")
        total = self.length + len(token_ids)
        if total > self.capacity:
            raise PromptTooLong(f"{total} tokens", self.capacity)

    def piece(self, left: int, alone: bool = True) -> int:
        """How many of a prompt's `left` tokens the next run takes: about a chunk, less if others wait for its end."""
        pace, unit = self._program.pace, self._program.cut_unit
        if self.cache.has_states and self.chunk >= 2 * UNIT:
            unit = max(unit, UNIT)  # at multiples of which states are worth keeping elsewhere
        longest = self.chunk if alone or pace is None else pace.longest(self.length, unit, self.chunk)
        taken = cut(self.length, left, longest, unit)
        if not self.cache.has_states:
            return taken
        if self.length < self.mark < self.length + taken and self.mark <= self.length + left - UNIT:
            return self.mark - self.length
        return cut_before_end(self.length, left, unit) if taken == left else taken

    def note_piece(self, tokens: int, seconds: float) -> None:
        """A run of so many tokens of a prompt, which are held now, took so long."""
        if self._program.pace is not None:
            self._program.pace.note(tokens, self.length - tokens, seconds)

    def append(self, token_ids: Sequence[int]) -> None:
        """Append tokens in one run, as `run` does, whose logits nobody wants: it does not wait for hashes."""
        self._run(token_ids, None)
        self.hold(token_ids)

    def run(self, token_ids: Sequence[int], logits: NDArray[np.float32] | None = None) -> Logits:
        """Append tokens in one run; the logits [vocab] after the last, memory that the next run writes again.

        The tokens are not checked, see `check`. `logits` [n, vocab], if given, takes those of the last n tokens
        instead. Raises Interrupted if `interrupt` was called; then nothing was appended. MoedgeError if the bundle
        turns out not to be intact.
        """
        self._run(token_ids, logits)
        self.prove()
        self.hold(token_ids)
        return self._logits

    def _run(self, token_ids: Sequence[int], logits: NDArray[np.float32] | None) -> None:
        try:
            self._program.run(self._lane, token_ids, len(self.tokens), logits)
        except Interrupted:
            raise
        except Exception:
            self.prove()  # damaged weights explain it
            raise

    def segment(self, token_ids: Sequence[int], wanted: int) -> Segment:
        """The same tokens for a run of several sessions, of the last `wanted` with logits. After it comes `hold`, and
        before that `prove` where logits are wanted.
        """
        past = len(self.tokens)
        return Segment(self.cache.slot, past, token_ids, wanted, self.cache.turn(past, len(token_ids)))

    def hold(self, token_ids: Sequence[int]) -> None:
        """These tokens were run, and are the session's from now on."""
        self.tokens.extend(token_ids)
        self.pending = None
        self.cache.trim(len(self.tokens))

    def prove(self) -> None:
        """Wait until the bundle is checked, so that logits may leave; raises as `run` does."""
        if self._hashes is not None:
            if not self._hashes.wait(self._lane.interrupted):
                self._lane.clear_interrupt()
                raise Interrupted
            self._hashes = None

    def close(self) -> None:
        """Give the memory of its cache back now, whoever still holds the session; it must not run again."""
        self.cache.close()

    def interrupt(self) -> None:
        """From another thread: stop the run in progress at its next operator, or else the next one.

        It raises Interrupted; the session holds what was complete before, and can go on.
        """
        self._lane.interrupt()

    def clear_interrupt(self) -> None:
        """Forget an interruption that came too late, so that what begins now is not affected by it."""
        self._lane.clear_interrupt()
