"""Where the new tokens stand, built once a graph: lengths, masks, rotary tables. Both lowerings begin with it."""

import onnx_ir as ir

from moedge.export.graph.arithmetic import causal_bias, lengths, table_rows, window_bias
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Positions
from moedge.export.model.config import ModelConfig, MultiHeadLatent


def shared_positions(
    b: Builder, attention_mask: ir.Value, input_ids: ir.Value, model: ModelConfig, context: int
) -> tuple[Positions, ir.Value]:
    """Positions with the whole rotary tables, and the total length, int64 [1]."""
    past, new, total, positions = lengths(b, attention_mask, input_ids)
    cos, sin = (
        b.matrix(name, table, "rotary tables")
        for name, table in zip(("cos", "sin"), model.rope.tables(context), strict=True)
    )
    rows = table_rows(b, positions, total, model.rope.switches(context))
    config, window = model.attention, None
    if isinstance(config, MultiHeadLatent):
        heads = config.num_heads
    else:
        heads = config.num_heads // config.num_kv_heads
        if config.sliding_layers and config.sliding_window < context:  # a longer window hides nothing
            window = window_bias(b, past, new, positions, heads, config.sliding_window)
    return Positions(past, new, rows, causal_bias(b, new, heads), window, cos, sin), total
