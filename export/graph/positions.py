"""Where the new tokens stand, built once a graph: lengths, masks, rotary tables. All lowerings begin with it."""

from collections.abc import Sequence

import onnx_ir as ir

from moedge.export.graph.arithmetic import causal_bias, find_rows, window_bias
from moedge.export.graph.builder import Builder
from moedge.export.graph.inputs import GraphInputs
from moedge.export.graph.lowering import Bias, Positions, Rotary
from moedge.export.model.config import Mixer, attention_of
from moedge.export.model.rope import Rope
from moedge.runtime.manifest import ROTARY_TABLES


def build_positions(
    b: Builder, inputs: GraphInputs, tokens: ir.Value, mixers: Sequence[Mixer | None], context: int
) -> tuple[Positions, ir.Value]:
    """Positions with the whole rotary tables, and the total length, int64 [1]."""
    lengths = inputs.measure(b, tokens)
    past, new, total = lengths.past, lengths.new, lengths.total
    kinds = attention_of(mixers)
    rotary: dict[Rope, Rotary] = {}
    for rope in dict.fromkeys(kind.rope for kind in kinds if kind.rope is not None):
        cos, sin = _tables(b, rope, context, len(rotary))
        rows = find_rows(b, lengths.positions, total, rope.switches(context))
        rotary[rope] = Rotary(rows, cos, sin, rope.switches(context))
    masks: dict[tuple[int, int], Bias] = {}
    for heads, window in dict.fromkeys((kind.heads_a_key, kind.window) for kind in kinds):
        if 0 < window < context:  # a longer window hides nothing
            masks[heads, window] = window_bias(b, past, new, lengths.positions, heads, window)
    for heads in dict.fromkeys(kind.heads_a_key for kind in kinds):
        masks[heads, 0] = causal_bias(b, new, heads)
    return Positions(past, new, rotary, masks), total


def _tables(b: Builder, rope: Rope, context: int, place: int) -> tuple[ir.Value, ir.Value]:
    """Cosines and sines of one rotary embedding, the `place`-th of the graph."""
    cos, sin = rope.tables(context)
    after = f"_{place}" if place else ""
    return b.matrix(f"cos{after}", cos, ROTARY_TABLES), b.matrix(f"sin{after}", sin, ROTARY_TABLES)
