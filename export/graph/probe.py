"""`probe.onnx`: a small QMoE node with the model's own attributes beside the same experts in plain fp32.

The runtime runs it once to know which kernel this machine takes: see docs/graph.md. Scales are fp32 whatever a model
keeps them in: they are what the kernel sees once ONNX Runtime has cast them, which it does not do for a probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.builder import MICROSOFT, make_attributes
from moedge.export.graph.fused import qmoe_attributes, qmoe_inputs
from moedge.export.graph.lowering import Routing
from moedge.export.model.config import Experts, Gate
from moedge.quant.blocks import F32, dequantize, interleave_rows, quantize
from moedge.quant.scheme import Scheme

TOKENS, EXPERTS = 3, 2


@dataclass(frozen=True)
class _Part:
    """What the probe has for one scheme."""

    nodes: list[ir.Node]
    initializers: list[ir.Value]
    outputs: list[ir.Value]


def build_probe(schemes: Sequence[Scheme], config: Experts) -> ir.Graph:
    """The probe's graph, of kernels' schemes: no inputs, two outputs a scheme, what a kernel gives and what is right.

    They are called `actual` and `exact` [3, 2 * block], and for further schemes these names and the scheme's.
    """
    parts = [_build(scheme, config, f".{scheme.name}" if place else "") for place, scheme in enumerate(schemes)]
    outputs, nodes, initializers = (
        [value for part in parts for value in getattr(part, kind)] for kind in ("outputs", "nodes", "initializers")
    )
    return ir.Graph([], outputs, nodes=nodes, initializers=initializers, name="probe")


def _build(scheme: Scheme, config: Experts, suffix: str) -> _Part:
    rng = np.random.default_rng(0)
    width = 2 * scheme.block
    x = rng.standard_normal((TOKENS, width)).astype(np.float32)
    logits = rng.standard_normal((TOKENS, EXPERTS)).astype(np.float32)
    made = [
        [quantize(rng.standard_normal((width, width)).astype(np.float32) / width**0.5, scheme) for _ in range(3)]
        for _ in range(EXPERTS)
    ]
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    exact = np.zeros_like(x)
    for share, (gate, up, down) in zip(shares.T, made, strict=True):
        g, u = x @ dequantize(gate).T, x @ dequantize(up).T
        exact += share[:, None] * (_gate(g, u, config.gate) @ dequantize(down).T)
    joined = [[interleave_rows(getattr(g, part), getattr(u, part)) for g, u, _ in made] for part in _parts(scheme)]
    second = [[getattr(d, part) for _, _, d in made] for part in _parts(scheme)]
    first_values = [_value(f"gate_up_{p}{suffix}", np.stack(a)) for p, a in zip(_parts(scheme), joined, strict=True)]
    second_values = [_value(f"down_{p}{suffix}", np.stack(a)) for p, a in zip(_parts(scheme), second, strict=True)]
    data = [_value(f"{n}{suffix}", a) for n, a in (("x", x), ("logits", logits), ("expected", exact))]
    inputs = qmoe_inputs(data[0], Routing(data[1], None, 1.0), [*first_values, None], [*second_values, None])
    attributes = qmoe_attributes(scheme, replace(config, num_experts_per_tok=EXPERTS))
    shape = ir.Shape([TOKENS, width])
    actual, copied = (ir.Value(name=f"{n}{suffix}", type=FLOAT, shape=shape) for n in ("actual", "exact"))
    nodes = [
        ir.Node(MICROSOFT, "QMoE", inputs, make_attributes(attributes), outputs=[actual], name=f"QMoE{suffix}"),
        ir.Node("", "Identity", [data[2]], outputs=[copied], name=f"exact{suffix}"),
    ]
    return _Part(nodes, [*data, *first_values, *second_values], [actual, copied])


def _gate(gate: F32, up: F32, how: Gate) -> F32:
    if how.limit is not None:
        gate, up = np.minimum(gate, how.limit), np.clip(up, -how.limit, how.limit)
    inner: F32 = gate / (1 + np.exp(-how.alpha * gate)) * (up + how.beta)
    return inner


def _parts(scheme: Scheme) -> tuple[str, ...]:
    return ("codes", "scales", "zero_points") if scheme.zero_point else ("codes", "scales")


def _value(name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
