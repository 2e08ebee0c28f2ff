"""Pieces of attention that its kinds share: norms of a vector, biases, the output projection."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import rms_norm
from moedge.export.graph.lowering import Lowering
from moedge.export.model.config import ModelConfig

ATTENTION = "attention"
Order = NDArray[np.int64] | None


def vector_norm(low: Lowering, ckpt: Checkpoint, name: str, x: ir.Value, width: int, eps: float) -> ir.Value:
    """RMSNorm of x's last axis with the weight `name` of the checkpoint."""
    weight = low.builder.vector(name, ckpt.read_parameter(name, width), "norms")
    return rms_norm(low.builder, x, weight, eps)


def add_bias(
    low: Lowering, ckpt: Checkpoint, x: ir.Value, name: str, parts: dict[str, int], orders: Sequence[Order] = (None,)
) -> ir.Value:
    """x + the biases of `parts`, whose rows stand there one after the other, each in its order if it has one."""
    biases = [ckpt.read_parameter(f"{part}.bias", rows) for part, rows in parts.items()]
    biases = [bias if order is None else bias[order] for bias, order in zip(biases, orders, strict=True)]
    value = low.builder.vector(low.builder.scoped(f"{name}.bias"), np.concatenate(biases), ATTENTION)
    return low.builder.op("Add", x, value)


def output_projection(
    low: Lowering, ckpt: Checkpoint, model: ModelConfig, name: str, x: ir.Value, width: int, bias: bool
) -> ir.Value:
    """The heads' results x [s, width] back to [s, hidden_size]."""
    part = model.names.output
    full, hidden = f"{name}.{part}", model.hidden_size
    out = low.linear(part, x, open_matrix(ckpt, full, (hidden, width)), ATTENTION)
    return add_bias(low, ckpt, out, part, {full: hidden}) if bias else out
