"""What a graph is told of each run: the new tokens, where they stand, and whose logits are wanted. See docs/graph.md.

A feed belongs to one binding; its arrays stay while they are bound. Caches bind themselves, logits are program.py's.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime

_FIRST_MASK = 256  # tokens; it doubles as the timeline grows


class Segment(NamedTuple):
    """A timeline's tokens in a run: they follow the `past` ones in its slot, and the last `wanted` have logits."""

    slot: int
    past: int
    token_ids: Sequence[int]
    wanted: int
    states: tuple[int, int] = (0, 0)  # that are read and written, where layers keep any


class Feed(Protocol):
    """Binds a run's inputs: the graph must have those in `names`, and those in `optional` with a value of their own."""

    names: frozenset[str]
    optional: frozenset[str]

    def __init__(self, context_length: int) -> None:
        """For a timeline of up to so many tokens."""

    def bind(self, binding: onnxruntime.IOBinding, segments: Sequence[Segment]) -> None:
        """The tokens of all segments, one after the other."""


class MaskFeed:
    """`input_ids`, `attention_mask` and `logits_to_keep`."""

    names = frozenset({"input_ids", "attention_mask"})
    optional = frozenset({"logits_to_keep"})

    def __init__(self, context_length: int) -> None:
        self.mask = np.ones((1, min(_FIRST_MASK, context_length)), np.int64)  # [1, at least the tokens so far]
        self._context_length = context_length
        self._keep = np.array(1, np.int64)

    def bind(self, binding: onnxruntime.IOBinding, segments: Sequence[Segment]) -> None:
        """One segment, there are no slots. The mask is a view of ones."""
        [(_, past, token_ids, wanted, _)] = segments
        total = past + len(token_ids)
        if total > self.mask.shape[1]:
            self.mask = np.ones((1, min(2 * total, self._context_length)), np.int64)
        binding.bind_cpu_input("input_ids", np.array([token_ids], np.int64))  # [1, s]
        binding.bind_cpu_input("attention_mask", self.mask[:, :total])  # [1, t + s]
        if wanted != 1:  # bound by address: onnxruntime finds no overridable initializer by value
            self._keep[()] = wanted
            binding.bind_input("logits_to_keep", "cpu", 0, np.int64, (), self._keep.ctypes.data)


class SegmentFeed:
    """`input_ids`, `segments` and `logits_rows`. A run of as many of each as the last one binds nothing anew."""

    names = frozenset({"input_ids", "segments", "logits_rows"})
    optional = frozenset[str]()

    def __init__(self, context_length: int) -> None:
        self._ids = np.empty(0, np.int64)
        self._segments = np.empty((0, 3), np.int64)  # slot, past, new
        self._rows = np.empty(0, np.int64)
        self._bound: tuple[onnxruntime.IOBinding | None, int, int, int] = (None, 0, 0, 0)  # see `bind`

    def bind(self, binding: onnxruntime.IOBinding, segments: Sequence[Segment]) -> None:
        """Writes where the last run's inputs were, if there are as many."""
        if len(segments) == 1 and self._bound == (binding, 1, 1, 1):
            [(slot, past, token_ids, wanted, _)] = segments
            if wanted == len(token_ids) == 1:  # as most are; numpy takes long to read lists
                self._ids[0], self._segments[0, 0], self._segments[0, 1] = token_ids[0], slot, past
                return
        rows, new = list[int](), 0
        for segment in segments:
            new += len(segment.token_ids)
            rows += range(new - segment.wanted, new)
        bound = binding, new, len(segments), len(rows)
        if self._bound != bound:
            self._ids, self._segments = np.empty(new, np.int64), np.empty((len(segments), 3), np.int64)
            self._rows = np.empty(len(rows), np.int64)
            for name, array, shape in (
                ("input_ids", self._ids, (1, new)),
                ("segments", self._segments, self._segments.shape),
                ("logits_rows", self._rows, self._rows.shape),
            ):
                binding.bind_input(name, "cpu", 0, np.int64, shape, array.ctypes.data)
            self._bound = bound
        self._ids[:] = list(chain.from_iterable(segment.token_ids for segment in segments))
        self._segments[:] = [(segment.slot, segment.past, len(segment.token_ids)) for segment in segments]
        self._rows[:] = rows


class StatesFeed(SegmentFeed):
    """`states` beside these, for graphs whose layers keep some."""

    names = SegmentFeed.names | {"states"}

    def __init__(self, context_length: int) -> None:
        super().__init__(context_length)
        self._states = np.empty((0, 2), np.int64)
        self._told: onnxruntime.IOBinding | None = None

    def bind(self, binding: onnxruntime.IOBinding, segments: Sequence[Segment]) -> None:
        """Writes where the last run's inputs were, if there are as many."""
        super().bind(binding, segments)
        if self._told is not binding or len(self._states) != len(segments):
            self._states = np.empty((len(segments), 2), np.int64)
            binding.bind_input("states", "cpu", 0, np.int64, self._states.shape, self._states.ctypes.data)
            self._told = binding
        self._states[:] = [segment.states for segment in segments]
