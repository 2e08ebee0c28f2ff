"""ONNX Runtime casts stored scales to fp32 when it loads a model: every kernel that reads them gives the same bits."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from moedge.quant.blocks import hold_scales, row_factors

ROWS, COLUMNS, BLOCK, EXPERTS = 32, 128, 32, 4
BLOCKS = COLUMNS // BLOCK
FLOAT = TensorProto.FLOAT
RAW = {
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16, np.dtype(ml_dtypes.float8_e4m3fn): TensorProto.FLOAT8E4M3FN,
}  # fmt: skip
HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
# subnormal numbers of fp16, large ones, and a power of two that only bf16 holds
HARD = [2.0**-24, -(2.0**-24), 3 * 2.0**-20, -6e-5, 60000.0, 2.0**-40, 1.0]
MOE = {
    "k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0,
    "expert_weight_bits": 4, "block_size": BLOCK, "normalize_routing_weights": 0, "accuracy_level": 4,
}  # fmt: skip
NBITS = {"bits": 4, "block_size": BLOCK}


def kernels(rng):
    """By name: the node, its domain's first; its codes; the shapes of its scales; what it is fed."""
    codes, x = rng.integers(0, 256, (ROWS, BLOCKS, BLOCK // 2), np.uint8), rng.standard_normal((3, COLUMNS), np.float32)
    first, second = (rng.integers(0, 256, (EXPERTS, n, COLUMNS // 2), np.uint8) for n in (2 * COLUMNS, COLUMNS))
    four = helper.make_tensor("codes", TensorProto.UINT4, (ROWS, COLUMNS), codes.tobytes(), raw=True)
    ids = np.array([0, 5, 1], np.int64)

    def contrib(op, inputs, **attributes):
        return helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)

    multiply = contrib("MatMulNBits", ["x", "codes", "s"], K=COLUMNS, N=ROWS, accuracy_level=4, **NBITS)
    gather = contrib("GatherBlockQuantized", ["codes", "x", "s"], gather_axis=0, quantize_axis=1, **NBITS)
    experts = contrib("QMoE", ["x", "scores", "first", "s", "", "second", "t"], **MOE)
    linear = helper.make_node("DequantizeLinear", ["codes", "s"], ["w"], axis=1, block_size=BLOCK)
    used = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    one = {"s": (ROWS, BLOCKS)}
    return {
        "MatMulNBits": ([multiply], {"codes": codes}, one, x),
        "GatherBlockQuantized": ([gather], {"codes": codes.reshape(ROWS, -1)}, one, ids),
        "DequantizeLinear": ([linear, used], {"codes": four}, one, x),
        "QMoE": (
            [experts],
            {"first": first, "second": second, "scores": rng.standard_normal((3, EXPERTS), np.float32)},
            {"s": (EXPERTS, 2 * COLUMNS, BLOCKS), "t": (EXPERTS, COLUMNS, BLOCKS)},
            x,
        ),
    }


def tensor(name, array):
    if isinstance(array, onnx.TensorProto):
        return array
    if array.dtype in RAW:
        return helper.make_tensor(name, RAW[array.dtype], array.shape, array.tobytes(), raw=True)
    return numpy_helper.from_array(array, name)


def run(folder, nodes, constants, scales, fed):
    """The output, and the operators that are left once ONNX Runtime has optimized the graph."""
    casts, tensors = [], [tensor(name, array) for name, array in constants.items()]
    for name, array in scales.items():
        if isinstance(array, tuple):  # numbers of float8, and a row's factor
            parts = [f"{name}.stored", f"{name}.row"]
            tensors += [tensor(part, each) for part, each in zip(parts, array, strict=True)]
            casts += [helper.make_node("Cast", [part], [f"{part}.fp32"], to=FLOAT) for part in parts]
            casts.append(helper.make_node("Mul", [f"{part}.fp32" for part in parts], [name]))
            continue
        stored = name if array.dtype == np.float32 else f"{name}.stored"
        tensors.append(tensor(stored, array))
        if stored != name:
            casts.append(helper.make_node("Cast", [stored], [name], to=FLOAT))
    kind = FLOAT if fed.dtype == np.float32 else TensorProto.INT64
    x = helper.make_tensor_value_info("x", kind, fed.shape)
    graph = helper.make_graph([*casts, *nodes], "g", [x], [helper.make_tensor_value_info("y", FLOAT, None)], tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]
    return session.run(None, {"x": fed})[0], left


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", kernels(np.random.default_rng(0)))
def test_cast_scales_are_constants_of_the_same_bits(name, half, tmp_path):
    rng = np.random.default_rng(1)
    nodes, constants, shapes, fed = kernels(rng)[name]
    stored = {}
    for place, shape in shapes.items():
        made = rng.uniform(-0.02, 0.02, shape)
        made.reshape(-1)[: len(HARD)] = HARD
        stored[place] = made.astype(half)
    exact, _ = run(tmp_path, nodes, constants, {p: s.astype(np.float32) for p, s in stored.items()}, fed)
    cast, left = run(tmp_path, nodes, constants, stored, fed)
    assert "Cast" not in left
    assert np.isfinite(exact).all()
    assert exact.any()
    assert np.array_equal(cast.view(np.uint32), exact.view(np.uint32))


@pytest.mark.parametrize("name", kernels(np.random.default_rng(0)))
def test_scales_in_float8_are_constants_of_the_same_bits(name, tmp_path):
    rng = np.random.default_rng(2)
    nodes, constants, shapes, fed = kernels(rng)[name]
    held = {place: hold_scales(rng.uniform(-0.02, 0.02, shape), "float8") for place, shape in shapes.items()}
    stored = {}
    for place, scales in held.items():
        factors = row_factors(scales)
        stored[place] = (scales / factors).astype(ml_dtypes.float8_e4m3fn), factors.astype(ml_dtypes.bfloat16)
    exact, _ = run(tmp_path, nodes, constants, held, fed)
    joined, left = run(tmp_path, nodes, constants, stored, fed)
    assert not {"Cast", "Mul"} & {*left}
    assert exact.any()
    assert np.array_equal(joined.view(np.uint32), exact.view(np.uint32))
