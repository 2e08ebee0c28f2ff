"""What lets a layer's tokens see one another, by its kind: each kind of mixer has a file of its own."""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from moedge.export.graph.attention import grouped_query_attention
from moedge.export.graph.block import Block
from moedge.export.graph.convolution import short_convolution
from moedge.export.graph.delta_net import delta_net
from moedge.export.graph.latent import latent_attention
from moedge.export.graph.lowering import Positions
from moedge.export.graph.mamba import mamba2
from moedge.export.model.config import GroupedQuery, MultiHeadLatent, ShortConvolution
from moedge.export.model.recurrent import DeltaNet, Mamba2

Build = Callable[[Block, Any, ir.Value, Positions], ir.Value]

BUILDERS: dict[type[Any], Build] = {
    GroupedQuery: grouped_query_attention,
    MultiHeadLatent: latent_attention,
    ShortConvolution: short_convolution,
    DeltaNet: delta_net,
    Mamba2: mamba2,
}


def mix(block: Block, x: ir.Value, where: Positions) -> ir.Value:
    """What a layer adds to its normed hidden states x [s, hidden_size] from other tokens."""
    return BUILDERS[type(block.mixer)](block, block.mixer, x, where)
