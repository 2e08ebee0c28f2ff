"""One layer on its way from a checkpoint's tensors to a lowering's operators: what the graph modules pass along."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.arithmetic import normalize, rms_norm
from moedge.export.graph.builder import Builder
from moedge.export.graph.channels import Channels
from moedge.export.graph.lowering import Lowering, Norm
from moedge.export.graph.mixer_inputs import Vector
from moedge.export.model.config import Mixer, ModelConfig
from moedge.quant.blocks import F32
from moedge.runtime.manifest import NORMS, GroupName

Order = NDArray[np.int64] | None


@dataclass(frozen=True)
class Block:
    """Layer `layer` of a model, read from a checkpoint and written by a lowering."""

    low: Lowering
    checkpoint: Checkpoint
    model: ModelConfig
    layer: int
    channels: Channels = field(default_factory=Channels)

    @property
    def builder(self) -> Builder:
        """Where its nodes go."""
        return self.low.builder

    @property
    def mixer(self) -> Mixer | None:
        """What lets its tokens see one another."""
        return self.model.mixers[self.layer]

    def place(self, name: str) -> str:
        """One of `TensorNames` in this layer."""
        return name.format(layer=self.layer)

    def matrix(self, module: str, rows: int, columns: int) -> Matrix:
        """The matrix of a module, in whatever format it is published."""
        return open_matrix(self.checkpoint, module, (rows, columns))

    def parameter(self, name: str, *shape: int) -> F32:
        """A tensor that no scheme rounds."""
        return self.checkpoint.read_parameter(name, *shape)

    def vector(self, name: str, group: GroupName, *shape: int) -> ir.Value:
        """The same as a value of the graph."""
        return self.builder.vector(name, self.parameter(name, *shape), group)

    def norm(self, name: str) -> Norm:
        """The normalization of hidden states that is called so in `TensorNames`."""
        return read_norm(self.low, self.checkpoint, self.model, self.place(name), self.channels)

    def norm_after(self, name: str, x: ir.Value) -> ir.Value:
        """x normalized by the norm that is called so in `TensorNames`, as it is where there is none."""
        return normalize(self.builder, x, self.norm(name)) if name else x

    def read_norm_of(self, norm: str, matrix: Matrix) -> Matrix:
        """A matrix that reads hidden states behind the normalization that is called so in `TensorNames`."""
        return self.channels.read(self.place(norm), matrix)

    def rms_norm(self, module: str, x: ir.Value, width: int, eps: float) -> ir.Value:
        """RMSNorm of x's last axis with the weight of a module."""
        return rms_norm(self.builder, x, self.norm_weight(module, width).store(self.builder), eps)

    def norm_weight(self, module: str, width: int) -> Vector:
        """The weight of a module that is an RMSNorm of the model's kind."""
        name = f"{module}.weight"
        values = self.parameter(name, width) + np.float32(self.model.norm_offset)
        return Vector(name, self.channels.divide(module, values), NORMS)

    def bias(self, name: str, parts: dict[str, int], group: GroupName, orders: Sequence[Order] = (None,)) -> Vector:
        """The biases of product `name`: those of `parts` one after the other, each in its order if it has one."""
        biases = [self.channels.divide(part, self.parameter(f"{part}.bias", rows)) for part, rows in parts.items()]
        biases = [bias if order is None else bias[order] for bias, order in zip(biases, orders, strict=True)]
        return Vector(self.builder.full_name(f"{name}.bias"), np.concatenate(biases), group)


def read_norm(
    low: Lowering, checkpoint: Checkpoint, model: ModelConfig, name: str, channels: Channels, share: float = 1.0
) -> Norm:
    """A normalization of hidden states, of the model's kind, its results times `share`."""

    def part(which: str, offset: float = 0.0) -> ir.Value:
        full = f"{name}.{which}"
        values = channels.divide(name, checkpoint.read_parameter(full, model.hidden_size) + np.float32(offset))
        return low.builder.vector(full, values * np.float32(share), NORMS)

    eps = model.norm_eps / model.multipliers.residual**2  # of hidden states that are kept divided: see `Hidden`
    weight, bias = part("weight", model.norm_offset), None
    if model.norm == "layer":
        none = np.zeros(model.hidden_size, np.float32)
        bias = part("bias") if model.norm_bias else low.builder.constant(none)
    return Norm(weight, bias, eps)
