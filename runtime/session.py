"""One timeline of a model: the tokens so far, their cache, and the steps that extend it.

It owns the cache and the run of the graph; how tokens are chosen and text is streamed is `generation.py`.
A session serves one thread at a time; sessions of one engine may run side by side.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime import generation
from moedge.runtime.cache import Cache
from moedge.runtime.generation import Token
from moedge.runtime.sampling import Logits, SamplingParams

if TYPE_CHECKING:
    from moedge.runtime.engine import Engine


class Interrupted(Exception):  # noqa: N818 - it was asked for, it is no error
    """The caller asked a run to stop; the session holds what was complete before and can go on."""


class Session:
    """One timeline. `pending` is a token that was sampled but has not been fed: the next generation feeds it first."""

    def __init__(self, engine: "Engine") -> None:
        facts = engine.manifest.model
        self.engine = engine
        self.tokens: list[int] = []
        self.pending: int | None = None
        self._vocab_size = facts.vocab_size
        self.cache = Cache(engine.manifest.cache, facts.context_length)
        self._mask = np.ones((1, 256), np.int64)
        self._binding = engine.onnx.io_binding()
        self._logits: Logits = np.empty((1, facts.vocab_size), np.float32)
        self._run_options = onnxruntime.RunOptions()
        # what fails is raised; logged too, each interruption inside an `If` would be an error on the terminal
        self._run_options.log_severity_level = 4

    @property
    def length(self) -> int:
        """How many tokens the cache holds."""
        return len(self.tokens)

    @property
    def capacity(self) -> int:
        """How many tokens the cache can hold: the bundle's context length."""
        return self.cache.capacity

    @property
    def cache_bytes(self) -> int:
        """Bytes of memory that the tokens in the cache take."""
        return self.cache.nbytes(self.length)

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens in chunks; the logits [vocab] after the last. When interrupted, whole chunks stay in the cache.

        MoedgeError before any work if the tokens do not fit the context or the vocabulary.
        """
        *_, logits = self.chunks(token_ids)
        assert logits is not None
        return logits.copy()

    def decode(self, token_id: int) -> Logits:
        """Append one token; the logits [vocab] after it."""
        return self.prefill([token_id])

    def rollback(self, length: int) -> None:
        """Forget all tokens from position `length` on, and the pending one.

        A model with convolutions keeps all of its state for the last few hundred tokens only: see `Cache.reachable`.
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

    def resume(self, token_ids: Sequence[int]) -> list[int]:
        """Roll back to the longest prefix of `token_ids` in the cache; the rest, at least one token, is to be fed."""
        pairs = zip(self.tokens, token_ids[:-1], strict=False)
        common = self.cache.reachable(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        self.rollback(common)
        return list(token_ids[common:])

    def fork(self) -> "Session":
        """A session of its own with the same tokens; copies what the cache holds."""
        other = Session(self.engine)
        other.cache.copy_from(self.cache, self.length)
        other.tokens = list(self.tokens)
        other.pending = self.pending
        return other

    def interrupt(self) -> None:
        """From another thread: stop the generation in progress at its next operator; it raises Interrupted.

        If none is in progress, the next `prefill` or `decode` does; a new generation is not affected.
        """
        self._run_options.terminate = True

    def generate(self, token_ids: Sequence[int], params: SamplingParams) -> Iterator[Token]:
        """Feed the pending token if there is one, then `token_ids`, then sample; see `steps`."""
        return (token for token in self.steps(token_ids, params) if token is not None)

    def steps(self, token_ids: Sequence[int], params: SamplingParams) -> Iterator[Token | None]:
        """None after every chunk of prefill but the last, then the tokens.

        A later generation continues this one: the last sampled token, which no step has fed yet, is fed before the
        new `token_ids`. So after a stop at end-of-sequence that token is in the cache too. After a stop string the
        tokens that spell it are. The last Token carries the finish reason. Checks raise MoedgeError at the call,
        before any work: nothing to feed, token ids outside the vocabulary, more tokens than the context holds.
        """
        self._run_options.terminate = False  # an interruption that came too late is not meant for this generation
        return generation.steps(self, token_ids, params)

    def check(self, token_ids: Sequence[int]) -> None:
        """Raise MoedgeError unless these tokens can be appended."""
        if not token_ids:
            raise MoedgeError("there is no token to start from: give a prompt of at least one token.")
        for token_id in (min(token_ids), max(token_ids)):
            if not 0 <= token_id < self._vocab_size:
                raise MoedgeError(f"token id {token_id} is outside the vocabulary of {self._vocab_size}.")
        total = self.length + len(token_ids)
        if total > self.capacity:
            raise MoedgeError(f"prompt has {total} tokens, the context is {self.capacity}: shorten the prompt.")

    def chunks(self, token_ids: Sequence[int]) -> Iterator[Logits | None]:
        """Append tokens chunk by chunk: None before every chunk, the last chunk's logits [vocab] at the end."""
        self.check(token_ids)
        size = self.engine.profile.prefill_chunk
        for start in range(0, len(token_ids), size):
            yield None
            self.run(token_ids[start : start + size], self._logits)
        yield self._logits[0]

    def run(self, token_ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        """One run of the graph: append tokens, write the logits of the last `len(logits)` to `logits` [n, vocab]."""
        past, new = self.length, len(token_ids)
        binding = self._binding if len(logits) == 1 else self.engine.onnx.io_binding()
        binding.bind_cpu_input("input_ids", np.asarray(token_ids, np.int64)[np.newaxis])  # [1, s]
        binding.bind_cpu_input("attention_mask", self._mask_of(past + new))  # [1, t + s]
        self.cache.bind(binding, past, new)
        keep = np.array(len(logits), np.int64)
        if len(logits) != 1:  # bound by address: onnxruntime finds no overridable initializer by value
            binding.bind_input("logits_to_keep", "cpu", 0, np.int64, (), keep.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        try:
            self.engine.onnx.run_with_iobinding(binding, self._run_options)
        except Exception:
            if not self._run_options.terminate:
                raise
            self._run_options.terminate = False
            raise Interrupted from None
        self.tokens.extend(token_ids)
        self.pending = None
        self.cache.trim(self.length)

    def _mask_of(self, length: int) -> NDArray[np.int64]:
        if length > self._mask.shape[1]:
            self._mask = np.ones((1, min(2 * length, self.capacity)), np.int64)
        return self._mask[:, :length]
