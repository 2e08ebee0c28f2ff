"""What a graph is told of each run: the new tokens, where they stand, and whose logits are wanted. See docs/graph.md.

A feed belongs to one timeline; its arrays stay while they are bound. Caches bind themselves, logits are program.py's.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime

_FIRST_MASK = 256  # tokens; it doubles as the timeline grows


class Feed(Protocol):
    """Binds a run's inputs: the graph must have those in `names`, and those in `optional` with a value of their own."""

    names: frozenset[str]
    optional: frozenset[str]

    def __init__(self, context_length: int) -> None:
        """For a timeline of up to so many tokens."""

    def bind(self, binding: onnxruntime.IOBinding, token_ids: Sequence[int], past: int, wanted: int) -> None:
        """Tokens after the `past` ones, of which the last `wanted` have logits."""


class MaskFeed:
    """`input_ids`, `attention_mask` and `logits_to_keep`."""

    names = frozenset({"input_ids", "attention_mask"})
    optional = frozenset({"logits_to_keep"})

    def __init__(self, context_length: int) -> None:
        self.mask = np.ones((1, min(_FIRST_MASK, context_length)), np.int64)  # [1, at least the tokens so far]
        self._context_length = context_length
        self._keep = np.array(1, np.int64)

    def bind(self, binding: onnxruntime.IOBinding, token_ids: Sequence[int], past: int, wanted: int) -> None:
        """The mask is a view of ones."""
        total = past + len(token_ids)
        if total > self.mask.shape[1]:
            self.mask = np.ones((1, min(2 * total, self._context_length)), np.int64)
        binding.bind_cpu_input("input_ids", np.array([token_ids], np.int64))  # [1, s]
        binding.bind_cpu_input("attention_mask", self.mask[:, :total])  # [1, t + s]
        if wanted != 1:  # bound by address: onnxruntime finds no overridable initializer by value
            self._keep[()] = wanted
            binding.bind_input("logits_to_keep", "cpu", 0, np.int64, (), self._keep.ctypes.data)


class SegmentFeed:
    """`input_ids`, `segments` of the one timeline, and `logits_rows`. Steps of one token bind nothing anew."""

    names = frozenset({"input_ids", "segments", "logits_rows"})
    optional = frozenset[str]()

    def __init__(self, context_length: int) -> None:
        self._ids = np.empty(0, np.int64)
        self._segments = np.zeros((1, 3), np.int64)  # slot, past, new
        self._rows = np.empty(0, np.int64)
        self._bound: tuple[onnxruntime.IOBinding, int, int] | None = None

    def bind(self, binding: onnxruntime.IOBinding, token_ids: Sequence[int], past: int, wanted: int) -> None:
        """Writes where the last run's inputs were; these are bound again if their number changes."""
        new = len(token_ids)
        if self._bound != (binding, new, wanted):
            self._ids, self._rows = np.empty(new, np.int64), np.arange(new - wanted, new, dtype=np.int64)
            self._segments[0, 2] = new
            binding.bind_input("input_ids", "cpu", 0, np.int64, (1, new), self._ids.ctypes.data)
            binding.bind_input("segments", "cpu", 0, np.int64, (1, 3), self._segments.ctypes.data)
            binding.bind_input("logits_rows", "cpu", 0, np.int64, (wanted,), self._rows.ctypes.data)
            self._bound = binding, new, wanted
        self._ids[:] = token_ids
        self._segments[0, 1] = past
