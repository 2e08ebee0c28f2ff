"""Layouts `state` and `states`: what recurrent layers keep of a timeline, of one size whatever its length.

A state has no rows to go back over: a length can be gone back to if the states of that length were kept. A run reads
one and writes another, so that the last whole one is there until the run has ended; which are kept beside it is decided
here. All tensors of a timeline keep those of the same lengths.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.cache.buffer import FLOAT_BYTES, Binding
from moedge.runtime.cache.reservation import CAN_GIVE_BACK, give_back, reserve_bytes
from moedge.runtime.manifest import CacheTensor

SNAPSHOT_BYTES = 128 << 20  # of one timeline, that are spent on lengths to go back to
FEWEST_SNAPSHOTS, MOST_SNAPSHOTS = 2, 16
STATE_STEP = 256  # tokens of an answer between two lengths that are kept
ZEROS = 0  # the state before the first token: never written


def count_states(tensors: Iterable[CacheTensor]) -> int:
    """States that a timeline holds at most: the present one, one that is written, and those to go back to."""
    nbytes = sum(prod(tensor.shape) * FLOAT_BYTES for tensor in tensors if tensor.is_state)
    if not nbytes:
        return 0
    return 2 + min(MOST_SNAPSHOTS, max(FEWEST_SNAPSHOTS, SNAPSHOT_BYTES // nbytes))


class StateMemory:
    """States [1 + slots * each, *shape] of a tensor: zeros, then those of each slot."""

    def __init__(self, tensor: CacheTensor, slots: int, each: int) -> None:
        self.tensor = tensor
        self.each = each
        shape = 1 + slots * each, *tensor.shape
        self._memory = reserve_bytes(prod(shape) * FLOAT_BYTES)
        self.states = np.frombuffer(self._memory, np.float32).reshape(shape)

    def bind(self, binding: Binding) -> None:
        """All of them, the same at each run."""
        self._bind(binding.bind_input, self.tensor.past, self.states)
        self._bind(binding.bind_output, self.tensor.present, self.states)

    def bind_one(self, binding: Binding, read: int, written: int) -> None:
        """One as the past and another as the present."""
        self._bind(binding.bind_input, self.tensor.past, self.states[read : read + 1])
        self._bind(binding.bind_output, self.tensor.present, self.states[written : written + 1])

    def clear(self, slot: int) -> None:
        """No state of a slot is needed any more."""
        if CAN_GIVE_BACK:
            nbytes, first = self.states[0].nbytes, 1 + slot * self.each
            give_back(self._memory, first * nbytes, (first + self.each) * nbytes)

    @staticmethod
    def _bind(bind: Callable[..., None], name: str, states: NDArray[np.float32]) -> None:
        bind(name, "cpu", 0, np.float32, states.shape, states.ctypes.data)


class StatesBuffer:
    """The states of one timeline, of all its tensors: a buffer as those of single tensors are."""

    def __init__(self, memories: Sequence[StateMemory], slot: int) -> None:
        self._memories = memories
        each = memories[0].each
        self._free = [*range(1 + slot * each, 1 + (slot + 1) * each)]
        self._kept: dict[int, int] = {}  # length to state, ascending
        self._writing: tuple[int, int] | None = None  # the length that a run is on its way to, and its state
        self._passing = False  # whether the newest state is one of many that an answer passes through
        self.moves = memories[0].tensor.layout == "state"

    @staticmethod
    def nbytes(tensors: Iterable[CacheTensor]) -> int:
        """At most, whatever the length."""
        states = [tensor for tensor in tensors if tensor.is_state]
        return count_states(states) * sum(prod(tensor.shape) for tensor in states) * FLOAT_BYTES

    def turn(self, past: int, new: int) -> tuple[int, int]:
        """The state that a run of `new` tokens after `past` reads, and the one that it writes."""
        state = self._writing[1] if self._writing else self._free.pop()
        self._writing = past + new, state
        return self._kept[past] if past else ZEROS, state

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """What `turn` says; of layout `states` all of them, as the graph is told by itself."""
        if not self.moves:
            for memory in self._memories:
                memory.bind(binding)
            return
        read, written = self.turn(past, new)
        for memory in self._memories:
            memory.bind_one(binding, read, written)

    def reachable(self, length: int) -> int:
        """The longest length up to that whose state is kept."""
        return max((kept for kept in self._kept if kept <= length), default=0)

    def trim(self, length: int) -> None:
        """After a run its state is kept; after a rollback those of greater lengths are not."""
        if self._writing and self._writing[0] == length:
            self._keep(*self._writing)
            return
        if self._writing:
            self._free.append(self._writing[1])
            self._writing = None
        for longer in [kept for kept in self._kept if kept > length]:
            self._drop(longer)
        self._passing = False

    @property
    def state_bytes(self) -> int:
        """Of one state of all tensors."""
        return sum(memory.states[0].nbytes for memory in self._memories)

    def find(self, length: int) -> list[NDArray[np.float32]] | None:
        """Of each tensor the state after `length` tokens [*shape], to be read; None if it is not kept."""
        state = self._kept.get(length)
        return None if state is None else [memory.states[state] for memory in self._memories]

    def begin(self, length: int) -> list[NDArray[np.float32]]:
        """The timeline, which held nothing, has got `length` tokens: of each tensor where their state is to be
        written.
        """
        state = self._kept[length] = self._free.pop()
        return [memory.states[state] for memory in self._memories]

    def copy(self, other: Self, length: int) -> None:
        """Copies all states that are kept up to there."""
        for at, theirs in other._kept.items():
            if at <= length:
                state = self._kept[at] = self._free.pop()
                for ours, memory in zip(self._memories, other._memories, strict=True):
                    ours.states[state] = memory.states[theirs]
        self._passing = other._passing

    def _keep(self, length: int, state: int) -> None:
        """A single token's state takes the place of the one before it, but at every step."""
        before = max(self._kept, default=0)
        single = length == before + 1
        if single and self._passing and before % STATE_STEP:
            self._drop(before)
        self._kept[length] = state
        self._writing = None
        self._passing = single
        if not self._free:
            self._drop(self._least_wanted())

    def _drop(self, length: int) -> None:
        self._free.append(self._kept.pop(length))

    def _least_wanted(self) -> int:
        """The length, not the newest, that lies nearest behind another for how far back it is."""
        lengths = [*self._kept]
        newest = lengths[-1]
        gaps = [(at - before) / (newest - at) for before, at in zip([0, *lengths], lengths[:-1], strict=False)]
        return lengths[gaps.index(min(gaps))]
