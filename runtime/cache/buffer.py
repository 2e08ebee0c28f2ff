"""What a cache buffer of any layout can do, and what of onnxruntime it needs for that.

The layouts are rows.py, window.py, shared.py and native_buffer.py; which tensor gets which is cache.py's.
"""

from typing import Any, Protocol, Self

from numpy.typing import NDArray

FLOAT_BYTES = 4


class Binding(Protocol):
    """The part of onnxruntime's IOBinding that a cache uses."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory of ours as a graph input."""

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory of ours as a graph output."""


class Buffer(Protocol):
    """The memory behind one cache tensor of a timeline.

    A run is `bind`, the graph, then `trim` with the new length; a run that fails is never trimmed, and what it was
    bound to write may be bound again. A rollback is `trim` alone, with a length that is `reachable`.
    """

    @property
    def moves(self) -> bool:
        """Whether what `bind` binds differs from run to run."""

    def bind(self, binding: Binding, past: int, new: int) -> None:
        """Bind what the graph reads of the `past` tokens, and where it writes for the `new` ones."""

    def reachable(self, length: int) -> int:
        """The longest length up to `length` that can be rolled back to; 0 always can."""

    def trim(self, length: int) -> None:
        """Take note that the timeline now holds `length` tokens, and give back memory that none of them needs."""

    def copy(self, other: Self, length: int) -> None:
        """Take over the first `length` tokens, a length to go back to, of a buffer of the same tensor; into an empty
        one.
        """


class RowBuffer(Buffer, Protocol):
    """A buffer of rows, one a token."""

    def holds(self, first: int, last: int) -> bool:
        """Whether the rows of the tokens from `first` to before `last` are there."""

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """These rows, to be read or written; of which shape and numbers is the layout's."""

    def begin(self, first: int, length: int) -> None:
        """Take note that `rows` of an empty buffer were written from `first` to before `length`, the tokens that the
        timeline now holds.
        """
