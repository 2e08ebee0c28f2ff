"""Graphs of one of moedge's operators each, over weights made up for it, and sessions that run them."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from moedge.quant.blocks import dequantize, quantize
from moedge.quant.scheme import scheme_of
from moedge.quant.tiles import tile, tile_pairs
from moedge.runtime.kernels.library import find_library

INT4 = scheme_of(4, 32, True, "float16")


def format_of(scheme):
    """The attributes that tell a scheme."""
    return {
        "layout": 1, "bits": scheme.bits, "block": scheme.block, "zero_point": int(scheme.zero_point),
        "scales": scheme.scales, "numbers": scheme.numbers,
    }  # fmt: skip


def matrix(rows, columns, scheme=INT4, seed=0):
    """Tile rows of a random matrix, and the fp32 values that they stand for."""
    codes = quantize(np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32), scheme)
    return tile(codes, scheme), dequantize(codes)


def experts(count, hidden, inter, scheme=INT4, seed=0):
    """Tile rows of gate and up, and of down, of all experts; and their fp32 values (gate, up, down)."""
    rng = np.random.default_rng(seed)
    first, second, exact = [], [], []
    for _ in range(count):
        gate_up, down = (
            quantize((rng.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32), scheme)
            for shape in ((2 * inter, hidden), (hidden, inter))
        )
        first.append(tile_pairs(gate_up, scheme))
        second.append(tile(down, scheme))
        whole = dequantize(gate_up)
        exact.append((whole[::2], whole[1::2], dequantize(down)))
    return np.stack(first), np.stack(second), exact


def expert_attributes(hidden, inter, k, scheme=INT4, **others):
    """Those of an Experts node with SiLU."""
    usual = {"activation": "swiglu", "alpha": 1.0, "beta": 0.0, "limit": 0.0, "routing_scale": 1.0, "layer": 0}
    return format_of(scheme) | usual | {"k": k, "hidden": hidden, "inter": inter} | others


def linear_attributes(rows, columns, scheme=INT4, **others):
    """Those of a Linear node that is a product alone."""
    usual = {"rows": rows, "columns": columns, "activation_bits": 8, "activation": "none"}
    return format_of(scheme) | usual | others


def open_graph(kind, given, constants, attributes, threads=1, library=None):
    """A session of one node of that kind; its inputs are `given` (name to element type, or None) and then constants."""
    names = [name if kind_of else "" for name, kind_of in given.items()]
    values = [numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None]
    names += [name if array is not None else "" for name, array in constants.items()]
    while not names[-1]:
        names.pop()
    node = helper.make_node(kind, names, ["out"], domain="moedge", **attributes)
    inputs = [helper.make_tensor_value_info(name, of, None) for name, of in given.items() if of]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", inputs, [out], values)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library or find_library()))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_linear(weights, rows, columns, scheme=INT4, threads=1, activation_bits=8, **others):
    """A session of Linear over tile rows."""
    attributes = linear_attributes(rows, columns, scheme, activation_bits=activation_bits) | others
    return open_graph("Linear", {"x": onnx.TensorProto.FLOAT}, {"w": weights}, attributes, threads)


def open_experts(first, second, attributes, weigh=False, biases=(None, None), threads=1):
    """A session of Experts; with `weigh` it takes weights beside the scores."""
    kind = TensorProto.FLOAT
    given = {"x": kind, "select": kind, "weigh": kind if weigh else None}
    constants = {"gate_up": first, "down": second, "gate_up_bias": biases[0], "down_bias": biases[1]}
    return open_graph("Experts", given, constants, attributes, threads)
