"""Graphs that are written without the package onnx, and weights that are drawn for them."""

import numpy as np
import onnx
import pytest
from native import needs_kernels

from moedge.devices.profile import load_profile
from moedge.quant.blocks import dequantize
from moedge.quant.scheme import scheme_of
from moedge.quant.tiles import read_tiles, tile_bytes
from moedge.runtime.kernels.library import open_library
from moedge.runtime.profiling.drawn_weights import DENSE_TILES, EXPERT_TILES, Drawing
from moedge.runtime.profiling.probe_graphs import (
    LayerShape,
    attention_graph,
    chain_graph,
    layers_graph,
    plain_product_graph,
    stock_experts_graph,
    stock_product_graph,
)
from moedge.runtime.profiling.probe_runs import open_layers, open_probe
from moedge.runtime.profiling.written_graphs import Node, WrittenGraph

SMALL = LayerShape(hidden=128, inter=64, experts=8, top_k=2, heads=4, kv_heads=2, dim=32)


@pytest.fixture
def drawing():
    return Drawing(2)


def read(graph):
    return onnx.load_model_from_string(graph.to_bytes())


def test_onnx_reads_what_is_written():
    attributes = {"some": -3, "many": 1 << 40, "share": 0.25, "name": "tiles"}
    node = Node("Linear", ("x", "", "w"), ("y",), "moedge", attributes)
    model = read(
        WrittenGraph({"x": "float32", "at": "int64"}, {"w": np.zeros((300, 2), np.uint8)}, [node], {"y": "uint8"})
    )
    [found] = model.graph.node
    assert (found.op_type, found.domain, [*found.input], [*found.output]) == ("Linear", "moedge", ["x", "", "w"], ["y"])
    told = {each.name: onnx.helper.get_attribute_value(each) for each in found.attribute}
    assert told == attributes | {"name": b"tiles"}
    assert {each.domain: each.version for each in model.opset_import} == {"": 21, "moedge": 1, "com.microsoft": 1}
    kinds = [each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)]
    assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UINT8]
    [constant] = model.graph.initializer
    assert (constant.name, [*constant.dims], constant.data_type) == ("w", [300, 2], onnx.TensorProto.UINT8)
    assert constant.data_location == onnx.TensorProto.EXTERNAL


def test_codes_are_of_mean_zero_and_never_repeated(drawing):
    codes = drawing.codes((1 << 20,))
    for nibbles in (codes & 15, codes >> 4):
        counts = np.bincount(nibbles, minlength=16)
        assert counts[0] == 0
        assert abs(nibbles.mean() - 8) < 0.02
        assert counts[8] > 3 * counts[1]
    blocks = codes.reshape(-1, 64)
    assert len(np.unique(blocks, axis=0)) == len(blocks)
    assert not np.array_equal(codes, drawing.codes(codes.shape))
    assert np.array_equal(codes, Drawing(1).codes(codes.shape))


def test_halves_are_numbers_of_either_sign(drawing):
    numbers = drawing.halves((64, 128)).view(np.float16).astype(np.float32)
    assert np.isfinite(numbers).all()
    assert abs(numbers.mean()) < 0.05
    assert (numbers.min(), numbers.max()) > (-1, 0.9)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(EXPERT_TILES, scheme_of(4, 32, True, "float16")), (DENSE_TILES, scheme_of(5, 64, False, "float16"))],
    ids=["experts", "dense"],
)
def test_tiles_are_those_of_a_scheme(drawing, kind, scheme):
    tiles = drawing.tiles(kind, 32, 192)
    assert tiles.shape == (2, tile_bytes(scheme, 192))
    weights = dequantize(read_tiles(tiles, scheme, 32, 192))
    assert weights.shape == (32, 192)
    assert abs(weights.mean()) < 0.005
    assert 0.01 < weights.std() < 0.15
    assert drawing.tiles(kind, 32, 192, 3).shape == (3, *tiles.shape)


@needs_kernels
def test_layers_run_and_give_the_same_for_the_same(drawing):
    profile, library = load_profile("auto"), open_library()
    layers = open_layers(SMALL, 2, 64, profile, library, drawing)
    x = drawing.numbers((3, SMALL.hidden))
    taken, out = layers.seconds(3, 4, x)
    assert taken > 0
    assert out.shape == (3, SMALL.hidden)
    assert np.isfinite(out).all()
    assert out.std() > 0.1
    again = layers.like(profile.with_threads(1, "")).seconds(3, 4, x)[1]
    assert np.array_equal(out, again)
    assert layers.graph.constants["up0"].nbytes == SMALL.experts * (
        SMALL.expert_bytes - layers.graph.constants["down0"][0].nbytes
    )
    dense = sum(layers.graph.constants[f"{name}0"].nbytes for name in ("joint", "after", "router"))
    assert dense == SMALL.dense_bytes


@needs_kernels
def test_attention_runs(drawing):
    probe = open_probe(attention_graph(4, 2, 32), load_profile("auto"), open_library())
    assert {each.name for each in probe.session.get_inputs()} == {"x", "segments", "key0", "value0"}


def test_operators_of_onnxruntime_compute_what_their_weights_say(drawing):
    profile = load_profile("auto")
    graph = plain_product_graph(32, 64, 2, drawing)
    x = drawing.numbers((5, 64))
    _, out = open_probe(graph, profile, None).seconds({"x": x})
    assert np.allclose(out, x @ sum(graph.constants.values()), atol=1e-3)
    graph = stock_product_graph(32, 64, 1, drawing)
    codes = graph.constants["w0"].reshape(32, 32)
    weights = np.stack([codes & 15, codes >> 4], -1).reshape(32, 64).astype(np.float32) - 8
    _, out = open_probe(graph, profile, None).seconds({"x": x})
    assert np.allclose(out, 0.01 * x @ weights.T, atol=0.05)
    experts = open_probe(stock_experts_graph(SMALL, 4, drawing), profile, None)
    _, out = experts.seconds({"x": drawing.numbers((5, 128)), "select": drawing.numbers((5, 4))})
    assert out.shape == (5, 128)
    assert np.isfinite(out).all()
    _, out = open_probe(chain_graph(100), profile, None, optimized=False).seconds({"x": np.ones((1, 16), np.float32)})
    assert out.shape == (1, 16)


def test_a_layer_is_what_its_graph_holds(drawing):
    kinds = [node.kind for node in layers_graph(SMALL, 1, drawing).nodes]
    assert kinds == ["AddNorm", "Linear", "Attention", "Linear", "AddNorm", "Router", "Experts", "AddNorm"]
