"""The graphs that are measured: decoder layers as the exporter lowers them, single operators, a chain of tiny ones.

Only the shape is a model's; weights are drawn. What operators mean is in docs/kernels.md and docs/qmoe.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.profiling.drawn_weights import DENSE_TILES, EXPERT_TILES, SCALE, Drawing, TileKind
from moedge.runtime.profiling.written_graphs import Attribute, Node, WrittenGraph

MOEDGE, MICROSOFT = "moedge", "com.microsoft"
BLOCK = 32  # of ONNX Runtime's operators
POSITIONS = 8192  # rows of the rotary tables
PLAIN_ROUTING: dict[str, Attribute] = {
    "scoring": "none",
    "normalize": 0,
    "eps": 0.0,
    "least_sum": 0.0,
    "jitter": 0.0,
    "groups": 1,
    "open_groups": 1,
    "group_best": 1,
}
SWIGLU: dict[str, Attribute] = {"activation": "swiglu", "alpha": 1.0, "beta": 0.0, "limit": 0.0, "routing_scale": 1.0}
Constants = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LayerShape:
    """A layer of a mixture."""

    hidden: int = 2048
    inter: int = 1024
    experts: int = 64
    top_k: int = 8
    heads: int = 16
    kv_heads: int = 4
    dim: int = 128

    @property
    def matrices(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the joint projection, and of the one after attention."""
        width = self.heads * self.dim
        return (width + 2 * self.kv_heads * self.dim, self.hidden), (self.hidden, width)

    @property
    def expert_macs(self) -> int:
        """Products of one expert with one token."""
        return 3 * self.hidden * self.inter

    @property
    def dense_macs(self) -> int:
        """Of all else with one token, attention left out."""
        return sum(rows * columns for rows, columns in self.matrices)

    @property
    def expert_bytes(self) -> int:
        """Of one expert's tile rows."""
        return _bytes(EXPERT_TILES, 2 * self.inter, self.hidden) + _bytes(EXPERT_TILES, self.hidden, self.inter)

    @property
    def dense_bytes(self) -> int:
        """Of all else that every token reads."""
        return sum(_bytes(DENSE_TILES, *shape) for shape in self.matrices) + 4 * self.experts * self.hidden

    @property
    def thin(self) -> "LayerShape":
        """The same operators, with next to nothing to multiply in the experts and in attention's projections."""
        return replace(self, inter=32, heads=4, kv_heads=1, dim=64)


def layers_graph(shape: LayerShape, count: int, drawing: Drawing) -> WrittenGraph:
    """Layers one after the other: x [s, hidden] and `segments` to `out`; caches of their own, `key0`, `value0`, …"""
    norm, inner = np.ones(shape.hidden, np.float32), np.ones(shape.dim, np.float32)
    constants: Constants = {"norm": norm, "head_norm": inner} | rotary_tables(shape.dim)
    inputs, outputs, nodes = {"x": "float32", "segments": "int64"}, dict[str, str](), list[Node]()
    x, delta = "x", "x"
    for layer in range(count):
        for name in ("key", "value"):
            inputs[f"{name}{layer}"] = outputs[f"present_{name}{layer}"] = "uint8"
        nodes += _layer(shape, layer, (x, delta), constants, drawing)
        x, delta = f"sum{layer}", f"mixed{layer}"
    nodes.append(_add_norm(x, delta, "out", "last"))
    return WrittenGraph(inputs, constants, nodes, {"out": "float32"} | outputs)


def attention_graph(heads: int, kv_heads: int, dim: int) -> WrittenGraph:
    """One Attention node over caches of several slots."""
    node = _attention(LayerShape(heads=heads, kv_heads=kv_heads, dim=dim), 0, "x", "out")
    inputs = {"x": "float32", "segments": "int64", "key0": "uint8", "value0": "uint8"}
    constants: Constants = {"head_norm": np.ones(dim, np.float32)} | rotary_tables(dim)
    outputs = {"out": "float32", "present_key0": "uint8", "present_value0": "uint8"}
    return WrittenGraph(inputs, constants, [node], outputs)


def stock_experts_graph(shape: LayerShape, experts: int, drawing: Drawing) -> WrittenGraph:
    """One QMoE node of so many experts: `x` and `select` [s, experts] to `out`."""
    hidden, inter = shape.hidden, shape.inter
    constants: Constants = {}
    for name, rows, columns in (("up", 2 * inter, hidden), ("down", hidden, inter)):
        constants[name] = drawing.codes((experts, rows, columns // 2))
        constants[f"{name}_scales"] = np.full((experts, rows, columns // BLOCK), SCALE, np.float32)
    attributes: dict[str, Attribute] = {
        "k": shape.top_k,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
        "expert_weight_bits": 4,
        "block_size": BLOCK,
        "normalize_routing_weights": 0,
        "accuracy_level": 4,
    }
    inputs = ("x", "select", "up", "up_scales", "", "down", "down_scales")
    node = Node("QMoE", inputs, ("out",), MICROSOFT, attributes)
    return WrittenGraph({"x": "float32", "select": "float32"}, constants, [node], {"out": "float32"})


def stock_product_graph(rows: int, columns: int, count: int, drawing: Drawing) -> WrittenGraph:
    """MatMulNBits, int4 weights and int8 activations, with `count` matrices one after the other: `x` to `out`."""
    constants, nodes = Constants(), list[Node]()
    for at in range(count):
        names = (f"w{at}", f"s{at}")
        constants[names[0]] = drawing.codes((rows, columns // BLOCK, BLOCK // 2))
        constants[names[1]] = np.full((rows, columns // BLOCK), SCALE, np.float32).reshape(-1)
        told: dict[str, Attribute] = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        nodes.append(Node("MatMulNBits", ("x", *names), (f"y{at}",), MICROSOFT, told))
    return _summed(constants, nodes)


def plain_product_graph(rows: int, columns: int, count: int, drawing: Drawing) -> WrittenGraph:
    """The same with MatMul over fp32."""
    constants: Constants = {f"w{at}": drawing.numbers((columns, rows)) for at in range(count)}
    nodes = [Node("MatMul", ("x", name), (f"y{at}",)) for at, name in enumerate(constants)]
    return _summed(constants, nodes)


def chain_graph(count: int) -> WrittenGraph:
    """Operators that compute next to nothing, one after the other: `x` to `out`."""
    names = ["x", *(f"y{at}" for at in range(count - 1)), "out"]
    nodes = [Node("Softsign", (before,), (after,)) for before, after in pairwise(names)]
    return WrittenGraph({"x": "float32"}, {}, nodes, {"out": "float32"})


def rotary_tables(dim: int) -> Constants:
    """Cosines and sines of all positions."""
    angles = np.arange(POSITIONS)[:, None] / 1e4 ** (np.arange(dim // 2) * 2 / dim)
    return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def _layer(
    shape: LayerShape, layer: int, given: tuple[str, str], constants: Constants, drawing: Drawing
) -> Iterator[Node]:
    (joint, hidden), after = shape.matrices
    for name, rows, columns in (("joint", joint, hidden), ("after", *after)):
        constants[f"{name}{layer}"] = drawing.tiles(DENSE_TILES, rows, columns)
    constants[f"router{layer}"] = drawing.numbers((shape.experts, shape.hidden)) * np.float32(SCALE)
    constants[f"up{layer}"] = drawing.tiles(EXPERT_TILES, 2 * shape.inter, shape.hidden, shape.experts)
    constants[f"down{layer}"] = drawing.tiles(EXPERT_TILES, shape.hidden, shape.inter, shape.experts)
    yield _add_norm(*given, f"normed{layer}", f"before{layer}")
    yield _linear(f"normed{layer}", f"joint{layer}", f"qkv{layer}", joint, hidden)
    yield _attention(shape, layer, f"qkv{layer}", f"context{layer}")
    yield _linear(f"context{layer}", f"after{layer}", f"attended{layer}", *after)
    yield _add_norm(f"before{layer}", f"attended{layer}", f"mlp{layer}", f"sum{layer}")
    routed: dict[str, Attribute] = {"experts": shape.experts, "hidden": shape.hidden, "k": shape.top_k}
    yield Node("Router", (f"mlp{layer}", f"router{layer}"), (f"select{layer}",), MOEDGE, routed | PLAIN_ROUTING)
    mixed: dict[str, Attribute] = EXPERT_TILES.attributes | SWIGLU
    sizes: dict[str, Attribute] = {"k": shape.top_k, "hidden": shape.hidden, "inter": shape.inter}
    inputs = (f"mlp{layer}", f"select{layer}", "", f"up{layer}", f"down{layer}")
    yield Node("Experts", inputs, (f"mixed{layer}",), MOEDGE, mixed | sizes | {"layer": layer})


def _add_norm(x: str, delta: str, normed: str, total: str) -> Node:
    return Node("AddNorm", (x, delta, "norm"), (normed, total), MOEDGE, {"eps": 1e-5})


def _linear(x: str, weights: str, out: str, rows: int, columns: int) -> Node:
    told: dict[str, Attribute] = {"rows": rows, "columns": columns, "activation_bits": 8, "activation": "none"}
    return Node("Linear", (x, weights), (out,), MOEDGE, DENSE_TILES.attributes | told)


def _attention(shape: LayerShape, layer: int, x: str, out: str) -> Node:
    told: dict[str, Attribute] = {
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "dim": shape.dim,
        "rotary": shape.dim,
        "scale": shape.dim**-0.5,
        "window": 0,
        "norm": "head",
        "eps": 1e-5,
        "clip": 0.0,
        "switch": 0,
        "activation_bits": 8,
        "layer": layer,
    }
    inputs = (x, f"key{layer}", f"value{layer}", "segments", "cos", "sin", "head_norm", "head_norm")
    outputs = (out, f"present_key{layer}", f"present_value{layer}")
    return Node("Attention", inputs, outputs, MOEDGE, told)


def _summed(constants: Constants, nodes: list[Node]) -> WrittenGraph:
    """Results of all nodes become one, so that none is left out."""
    results = tuple(node.outputs[0] for node in nodes)
    return WrittenGraph({"x": "float32"}, constants, [*nodes, Node("Sum", results, ("out",))], {"out": "float32"})


def _bytes(kind: TileKind, rows: int, columns: int) -> int:
    _, head, codes = kind.sections(columns)
    return rows // 16 * (head + codes)
