"""`probe.onnx`: a small QMoE node with the model's own attributes beside the same experts in plain fp32.

The runtime runs it once to know which kernel this machine takes: see docs/graph.md. Scales of integers are fp32
whatever a model keeps them in: what the kernel sees once ONNX Runtime has cast them, which it does not do for a probe.
Those of four-bit floats are as in a model, and each expert has factors of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.builder import MICROSOFT, make_attributes
from moedge.export.graph.lowering import Routing
from moedge.export.graph.qmoe import kernel_gate, qmoe_attributes, qmoe_inputs
from moedge.export.graph.storing import SCALE_TYPES
from moedge.export.model.config import Experts, Gate
from moedge.quant.blocks import F32, Codes, dequantize, interleave_rows, join_matrices, quantize
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
        [
            quantize(rng.standard_normal((width, width)).astype(np.float32) / width**0.5, one)
            for one in _schemes(scheme, expert)
        ]
        for expert in range(EXPERTS)
    ]
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    exact = np.zeros_like(x)
    for share, (gate, up, down) in zip(shares.T, made, strict=True):
        g, u = x @ dequantize(gate).T, x @ dequantize(up).T
        exact += share[:, None] * (_gate(g, u, kernel_gate(config.gate)) @ dequantize(down).T)
    first = [join_matrices([gate, up], lambda arrays: interleave_rows(*arrays)) for gate, up, _ in made]
    first_values = _values("gate_up", suffix, first, scheme)
    second_values = _values("down", suffix, [down for _, _, down in made], scheme)
    data = [_value(f"{n}{suffix}", a) for n, a in (("x", x), ("logits", logits), ("expected", exact))]
    routing = Routing(data[1], None, 1.0)
    inputs = qmoe_inputs(data[0], routing, first_values, second_values)
    attributes = qmoe_attributes(scheme, replace(config, num_experts_per_tok=EXPERTS), routing)
    shape = ir.Shape([TOKENS, width])
    actual, copied = (ir.Value(name=f"{n}{suffix}", type=FLOAT, shape=shape) for n in ("actual", "exact"))
    nodes = [
        ir.Node(MICROSOFT, "QMoE", inputs, make_attributes(attributes), outputs=[actual], name=f"QMoE{suffix}"),
        ir.Node("", "Identity", [data[2]], outputs=[copied], name=f"exact{suffix}"),
    ]
    there = [value for value in (*data, *first_values, *second_values) if value is not None]
    return _Part(nodes, there, [actual, copied])


def _gate(gate: F32, up: F32, how: Gate) -> F32:
    if how.limit is not None:
        gate, up = np.minimum(gate, how.limit), np.clip(up, -how.limit, how.limit)
    inner: F32 = gate / (1 + np.exp(np.minimum(-how.alpha * gate, 80))) * (up + how.beta)
    return inner


def _schemes(scheme: Scheme, expert: int) -> tuple[Scheme, Scheme, Scheme]:
    """Of gate, up and down: the factor of the first two is one, and no other is the same."""
    if scheme.scales != "float8e4m3fn":
        return scheme, scheme, scheme
    gate_up, down = (replace(scheme, factor=2.0 ** (place - 2 * expert - 9)) for place in range(2))
    return gate_up, gate_up, down


def _values(name: str, suffix: str, experts: Sequence[Codes], scheme: Scheme) -> list[ir.Value | None]:
    """Codes, scales, zero points and factors of a projection."""
    scales = np.stack([one.scales for one in experts])
    if scheme.numbers == "floats":
        scales = scales.astype(SCALE_TYPES[scheme.scales].numpy())
    zeros = [one.zero_points for one in experts if one.zero_points is not None]
    factors = np.array([one.factor for one in experts], np.float32)
    return [
        _value(f"{name}_codes{suffix}", np.stack([one.codes for one in experts])),
        _value(f"{name}_scales{suffix}", scales),
        _value(f"{name}_zero_points{suffix}", np.stack(zeros)) if zeros else None,
        _value(f"{name}_factors{suffix}", factors) if scheme.scales == "float8e4m3fn" else None,
    ]


def _value(name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
