"""What tests of the native plan share: bundles of it, and what their tile rows hold."""

from functools import cache

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from moedge.quant.blocks import Codes, dequantize, quantize
from moedge.quant.scheme import Scheme
from moedge.quant.tiles import read_tiles
from moedge.runtime.kernels.library import find_library

SCALES = {"float32": np.float32, "float16": np.float16, "float8": ml_dtypes.float8_e4m3fn}
needs_kernels = pytest.mark.skipif(find_library() is None, reason="moedge's kernel library is not built here")


def nodes_of(bundle, kind):
    """The nodes of a kind of operator in their order, each as its inputs and its attributes by name."""
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    return [
        (list(node.input), {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        for node in graph.node
        if node.op_type == kind
    ]


def scheme_in(attributes):
    """The scheme that a node's attributes tell."""
    texts = {name: attributes[name].decode() for name in ("scales", "numbers")}
    return Scheme(
        "", attributes["bits"], attributes["block"], bool(attributes["zero_point"]), texts["scales"], texts["numbers"]
    )


@cache
def tensors_of(bundle):
    """The initializers of a bundle by name."""
    graph = onnx.load(bundle / "model.onnx").graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def weights_of(bundle):
    """The fp32 matrices that a native bundle's tile rows stand for, by name; of experts [experts, rows, columns]."""
    found, tensors = {}, tensors_of(bundle)
    for kind in ("Linear", "Embedding"):
        for inputs, told in nodes_of(bundle, kind):
            tiles, shape = tensors[inputs[1]], (told["rows"], told["columns"])
            parts = [tiles[0::2], tiles[1::2]] if told.get("activation") == b"swiglu" else [tiles]  # gate, then up
            weights = [dequantize(read_tiles(part, scheme_in(told), *shape)) for part in parts]
            found[inputs[1].removesuffix(".tiles")] = np.concatenate(weights)
    for inputs, told in nodes_of(bundle, "Experts"):
        scheme, hidden, inter = scheme_in(told), told["hidden"], told["inter"]
        gate_up, down = tensors[inputs[3]], tensors[inputs[4]]
        halves = [[dequantize(read_tiles(e[place::2], scheme, inter, hidden)) for e in gate_up] for place in range(2)]
        found[inputs[3].removesuffix(".tiles")] = np.stack(halves, 2).reshape(len(gate_up), 2 * inter, hidden)
        found[inputs[4].removesuffix(".tiles")] = np.stack(
            [dequantize(read_tiles(e, scheme, hidden, inter)) for e in down]
        )
    return found


def fused_weights(bundle, name, scheme, shape):
    """The fp32 matrix [rows, columns] that a fused bundle's codes stand for; experts' rows one after the other."""
    graph, file = (
        onnx.load(bundle / "model.onnx", load_external_data=False).graph,
        (bundle / "weights.bin").read_bytes(),
    )
    kept = {}
    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            begin = int(place["offset"])
            kept[tensor.name] = np.frombuffer(file[begin : begin + int(place["length"])], np.uint8)

    def find(*parts):
        return next((kept[f"{name}.{part}"].reshape(shape[0], -1) for part in parts if f"{name}.{part}" in kept), None)

    codes, scales = [find("codes", "rows", "lower_codes"), find("upper_codes")], find("scales")
    whole = scales.view(SCALES[scheme.scales]).astype(np.float32)
    if scheme.scales == "float8":
        whole *= find("row_scales").view(ml_dtypes.bfloat16).astype(np.float32)
    joined = np.concatenate([part for part in codes if part is not None], axis=1)
    return dequantize(Codes(joined, whole, find("zero_points"), scheme.bits, scheme.block))


def round_latent(checkpoint, scheme):
    """Write up-projections of latent attention as `scheme` keeps them: of all plans, only `native` rounds these."""
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    for name, weight in tensors.items():
        if "kv_b_proj" in name:
            tensors[name] = dequantize(quantize(weight.astype(np.float32), scheme.fit(weight.shape[1])))
    save_file(tensors, path, {"format": "pt"})
