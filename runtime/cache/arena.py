"""Room for several timelines at once: of a tensor of layout `native` or `states` one memory, in which each has a slot.

A graph is given the memory whole, so timelines of one arena can be run together. It takes address space for all slots
and pages for what is written. Tensors of other layouts are each timeline's own, but states lie together in any.
"""

from collections.abc import Sequence

from moedge.devices.profile_file import CacheType
from moedge.runtime.cache.buffer import Binding
from moedge.runtime.cache.native_buffer import NativeBuffer, NativeMemory
from moedge.runtime.cache.states import StateMemory, StatesBuffer, count_states
from moedge.runtime.manifest import CacheTensor


class Arena:
    """`slots` places for timelines of up to `capacity` tokens; NoRoom if the address space does not hold them."""

    def __init__(self, tensors: Sequence[CacheTensor], capacity: int, wish: CacheType, slots: int) -> None:
        self._memories = {
            tensor.past: NativeMemory(tensor, capacity, wish, slots) for tensor in tensors if tensor.layout == "native"
        }
        each = count_states(tensors)
        self._states = [StateMemory(tensor, slots, each) for tensor in tensors if tensor.is_state]
        self._all: list[NativeMemory | StateMemory] = [*self._memories.values(), *self._states]
        # a list, as what puts slots back runs wherever a cache is dropped, and must wait for no lock
        self._free = [*reversed(range(slots))]

    @property
    def free(self) -> bool:
        """Whether `take` finds one."""
        return bool(self._free)

    def take(self) -> int | None:
        """A slot that is nobody's, or None."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def put_back(self, slot: int) -> None:
        """Nobody has this slot any more; its memory is given back."""
        for memory in self._all:
            memory.clear(slot)
        self._free.append(slot)

    def buffer(self, tensor: CacheTensor, slot: int) -> NativeBuffer:
        """What a timeline has of a tensor of layout `native`."""
        return NativeBuffer(self._memories[tensor.past], slot)

    def states(self, slot: int) -> StatesBuffer | None:
        """What a timeline has of all tensors that are states, if there are any."""
        return StatesBuffer(self._states, slot) if self._states else None

    def bind(self, binding: Binding) -> None:
        """All slots of all these tensors."""
        for memory in self._all:
            memory.bind(binding)
