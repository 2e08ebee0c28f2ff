"""What a graph is told beside tokens and caches: how many tokens went before, and whose logits are wanted.

`fused` and `if` graphs have an attention mask, as every tool of ONNX decoders knows it; `native` ones have segments and
rows, so that several timelines may run at once. docs/graph.md has them all.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from moedge.export.graph.builder import Builder

INT64 = ir.TensorType(ir.DataType.INT64)


@dataclass(frozen=True)
class Lengths:
    """How many tokens there are, int64 [1] each, and where the new ones stand, int64 [s]."""

    past: ir.Value
    new: ir.Value
    total: ir.Value
    positions: ir.Value


class GraphInputs(Protocol):
    """Inputs of a graph that are no tokens and no caches."""

    @property
    def wanted(self) -> str:
        """What the number of wanted logits is called in shapes."""
        ...

    def open(self, b: Builder, head: bool, states: bool) -> list[ir.Value]:
        """The inputs, of a graph that ends in a head or not, with states of a fixed size among its caches or not."""
        ...

    def measure(self, b: Builder, tokens: ir.Value) -> Lengths:
        """Lengths and positions of the new tokens, axis 1 of `tokens`."""
        ...

    def pick(self, b: Builder, x: ir.Value) -> ir.Value:
        """Those of the new tokens' rows [s, width] whose logits are wanted [n, width]."""
        ...


class MaskInputs:
    """`attention_mask` [1, t + s], of which only the length is read, and `logits_to_keep`: so many last rows."""

    wanted = "logits_to_keep"

    def open(self, b: Builder, head: bool, states: bool) -> list[ir.Value]:
        """The mask, and how many logits are kept: an initializer that may be overridden."""
        self._mask = ir.Value(name="attention_mask", type=INT64, shape=ir.Shape([1, "total_length"]))
        if not head:
            return [self._mask]
        self._keep = b.initializer(ir.tensor(np.array(1, np.int64), name="logits_to_keep"))
        return [self._mask, self._keep]

    def measure(self, b: Builder, tokens: ir.Value) -> Lengths:
        """The total is the mask's length."""
        total = b.op("Shape", self._mask, attributes={"start": 1, "end": 2})
        new = b.op("Shape", tokens, attributes={"start": 1, "end": 2})
        past = b.op("Sub", total, new)
        return Lengths(past, new, total, _positions(b, past, total))

    def pick(self, b: Builder, x: ir.Value) -> ir.Value:
        """The last rows."""
        return b.op("Slice", x, b.op("Reshape", b.op("Neg", self._keep), b.ints(1)), b.ints(2**62), b.ints(0))


class SegmentInputs:
    """`segments` [b, 3], each a timeline's slot, past and new tokens, and `logits_rows` [n], of the new tokens'.

    Where layers keep states, `states` [b, 2]: of each segment the state that is read, and the one that is written.

    Lengths are those of one timeline, for what reads no segments by itself.
    """

    wanted = "logits_rows"

    def open(self, b: Builder, head: bool, states: bool) -> list[ir.Value]:
        """The segments, and rows."""
        self.segments = ir.Value(name="segments", type=INT64, shape=ir.Shape(["segments", 3]))
        self.states = ir.Value(name="states", type=INT64, shape=ir.Shape(["segments", 2]))
        self._rows = ir.Value(name="logits_rows", type=INT64, shape=ir.Shape(["logits_rows"]))
        return [self.segments, *([self.states] if states else []), *([self._rows] if head else [])]

    def measure(self, b: Builder, tokens: ir.Value) -> Lengths:
        """The past is the first segment's."""
        first = b.op("Gather", self.segments, b.constant(np.array(0, np.int64)))  # [3]
        past = b.op("Slice", first, b.ints(1), b.ints(2))
        new = b.op("Shape", tokens, attributes={"start": 1, "end": 2})
        total = b.op("Add", past, new)
        return Lengths(past, new, total, _positions(b, past, total))

    def pick(self, b: Builder, x: ir.Value) -> ir.Value:
        """Those rows."""
        return b.op("Gather", x, self._rows)


def _positions(b: Builder, past: ir.Value, total: ir.Value) -> ir.Value:
    scalars = [b.op("Squeeze", value, b.ints(0)) for value in (past, total)]
    return b.op("Range", *scalars, b.constant(np.array(1, np.int64)))
