"""A delta net in the place of attention, see `DeltaNet`: its projections as checkpoints keep them.

split: in_proj_qkv, in_proj_z, in_proj_b and in_proj_a, one above the other (Qwen3.5).
grouped: in_proj_qkvz and in_proj_ba, in which each key head has its q, k, v and z, or b and a, together (Qwen3-Next).
kda: q_proj, k_proj, v_proj, decay and gate of two narrow matrices each (Kimi Linear).
kda_wide: the same with decay and gate of one matrix each, f_proj and g_proj, which the scheme rounds (Ling 3).
Both have a convolution each of q, k and v, as makers publish them, or one of all, as transformers holds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import Reordered, stack
from moedge.export.graph.block import Block
from moedge.export.graph.convolution import read_taps
from moedge.export.graph.lowering import Positions
from moedge.export.graph.mixer_inputs import DeltaInputs, Vector
from moedge.export.graph.storing import store_whole
from moedge.export.model.recurrent import DeltaNet
from moedge.quant.blocks import F32
from moedge.runtime.manifest import ATTENTION, CONVOLUTION, NORMS


@dataclass(frozen=True)
class _Projected:
    """A token's parts: q, k and v of all heads [s, convolved], z [s, values], b [s, value_heads], a [s, decays]."""

    mixed: ir.Value
    gate: ir.Value
    beta: ir.Value
    decay: ir.Value


def delta_net(block: Block, config: DeltaNet, x: ir.Value, _: Positions) -> ir.Value:
    """out_proj of what the recurrence makes of normed hidden states x [s, hidden_size]."""
    low, name = block.low, block.place(block.model.names.recurrent)
    with block.builder.scope(name):
        parts = _LAYOUTS[config.layout](block, config, name, x)
        mixed = low.causal_convolution(block.layer, parts.mixed, _taps(block, config, name), None)
        norm, output = ("o_norm", block.model.names.output) if config.layout in _KDA else ("norm", "out_proj")
        given = DeltaInputs(
            mixed,
            parts.gate,
            parts.beta,
            parts.decay,
            Vector(f"{name}.A", -np.exp(_per_head(block, config, f"{name}.A_log")), ATTENTION),
            Vector(f"{name}.dt_bias", block.parameter(f"{name}.dt_bias", config.decays), ATTENTION),
            Vector(f"{name}.{norm}.weight", block.parameter(f"{name}.{norm}.weight", config.value_dim), NORMS),
        )
        out = low.delta_net(block.layer, given, config)
        matrix = block.matrix(f"{name}.{output}", block.model.hidden_size, config.values)
        return low.linear(output, out, matrix, ATTENTION)


def exact_product(block: Block, name: str, x: ir.Value, matrix: Matrix) -> ir.Value:
    """x · Wᵀ of a small matrix that no scheme rounds."""
    weight = store_whole(block.builder, block.builder.full_name(f"{name}.weight"), matrix, ATTENTION)
    return block.builder.op("Gemm", x, weight, attributes={"transB": 1})


def _split(block: Block, config: DeltaNet, name: str, x: ir.Value) -> _Projected:
    rows = {"in_proj_qkv": config.convolved, "in_proj_z": config.values}
    joined = block.low.linear("in_proj", x, stack([_read(block, f"{name}.{p}", n) for p, n in rows.items()]), ATTENTION)
    decide = [_read(block, f"{name}.{part}", config.value_heads) for part in ("in_proj_b", "in_proj_a")]
    return _part(block, config, joined, exact_product(block, "in_proj_ba", x, stack(decide)))


def _grouped(block: Block, config: DeltaNet, name: str, x: ir.Value) -> _Projected:
    heads, key, value = config.key_heads, config.key_dim, config.values // config.key_heads
    of_head = np.arange(heads * 2 * (key + value)).reshape(heads, -1)
    parts = np.split(of_head, np.cumsum([key, key, value]), axis=1)
    matrix = _read(block, f"{name}.in_proj_qkvz", of_head.size)
    order = np.concatenate([part.reshape(-1) for part in parts])
    joined = block.low.linear("in_proj", x, Reordered(matrix, order), ATTENTION)
    both = np.arange(2 * config.value_heads).reshape(heads, 2, -1)
    matrix = Reordered(_read(block, f"{name}.in_proj_ba", both.size), both.transpose(1, 0, 2).reshape(-1))
    return _part(block, config, joined, exact_product(block, "in_proj_ba", x, matrix))


def _kda(block: Block, config: DeltaNet, name: str, x: ir.Value) -> _Projected:
    low, inner = block.low, config.value_dim
    mixed, narrow = _join(block, config, name, x, {f"{name}.g_a_proj": inner})
    gate = low.linear("g_b_proj", narrow, block.matrix(f"{name}.g_b_proj", config.values, inner), ATTENTION)
    small = _read(block, f"{name}.b_proj", config.value_heads), _read(block, f"{name}.f_a_proj", inner)
    first = exact_product(block, "in_proj_bf", x, stack(small))
    sizes = block.builder.ints(config.value_heads, inner)
    beta, narrow = block.builder.ops("Split", first, sizes, attributes={"axis": -1}, outputs=2)
    decay = exact_product(block, "f_b_proj", narrow, block.matrix(f"{name}.f_b_proj", config.decays, inner))
    return _Projected(mixed, gate, beta, decay)


def _kda_wide(block: Block, config: DeltaNet, name: str, x: ir.Value) -> _Projected:
    others = {f"{name}.g_proj": config.values, f"{name}.f_proj": config.decays}
    mixed, gate, decay = _join(block, config, name, x, others)
    beta = exact_product(block, "b_proj", x, _read(block, f"{name}.b_proj", config.value_heads))
    return _Projected(mixed, gate, beta, decay)


def _join(block: Block, config: DeltaNet, name: str, x: ir.Value, others: dict[str, int]) -> Sequence[ir.Value]:
    """Of one product: q, k and v together, and each of the other modules, which have so many rows."""
    rows = {f"{name}.q_proj": config.keys, f"{name}.k_proj": config.keys, f"{name}.v_proj": config.values, **others}
    matrix = stack([_read(block, module, count) for module, count in rows.items()])
    sizes = block.builder.ints(config.convolved, *others.values())
    joined = block.low.linear("in_proj", x, matrix, ATTENTION)
    return block.builder.ops("Split", joined, sizes, attributes={"axis": -1}, outputs=1 + len(others))


_LAYOUTS = {"split": _split, "grouped": _grouped, "kda": _kda, "kda_wide": _kda_wide}
_KDA = ("kda", "kda_wide")


def _read(block: Block, module: str, rows: int) -> Matrix:
    """A matrix that reads the layer's normed hidden states."""
    return block.read_norm_of(block.model.names.input_norm, block.matrix(module, rows, block.model.hidden_size))


def _part(block: Block, config: DeltaNet, joined: ir.Value, decide: ir.Value) -> _Projected:
    """Of q, k, v, z joined, and of b and a."""
    b = block.builder
    sizes = b.ints(config.convolved, config.values)
    mixed, gate = b.ops("Split", joined, sizes, attributes={"axis": -1}, outputs=2)
    beta, decay = b.ops("Split", decide, attributes={"axis": -1, "num_outputs": 2}, outputs=2)
    return _Projected(mixed, gate, beta, decay)


def _taps(block: Block, config: DeltaNet, name: str) -> Vector:
    """Those of one convolution, or of three."""
    joint = f"{name}.conv1d"
    if config.layout not in _KDA or f"{joint}.weight" in block.checkpoint:
        return read_taps(block, joint, config.convolved, config.kernel)
    channels = {"q_conv1d": config.keys, "k_conv1d": config.keys, "v_conv1d": config.values}
    parts = [read_taps(block, f"{name}.{part}", n, config.kernel).values for part, n in channels.items()]
    return Vector(f"{joint}.weight", np.concatenate(parts, axis=1), CONVOLUTION)


def _per_head(block: Block, config: DeltaNet, name: str) -> F32:
    """[value_heads], which Kimi Linear keeps as [1, 1, heads, 1]."""
    wide = name in block.checkpoint and len(block.checkpoint.shape(name)) == 4
    shape = (1, 1, config.value_heads, 1) if wide else (config.value_heads,)
    return block.parameter(name, *shape).reshape(-1)
