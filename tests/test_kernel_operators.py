"""What the operators compute, inside of ONNX Runtime: every format, every activation, and the same bits whatever else.

tests/kernels/check.cpp holds the instruction sets against each other; here it is the one that this machine chooses.
"""

import math
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from kernel_graphs import (
    expert_attributes,
    experts,
    format_of,
    matrix,
    open_experts,
    open_graph,
    open_linear,
)
from native import needs_kernels
from onnx import TensorProto, helper, numpy_helper

from moedge.quant.blocks import interleave_rows, quantize
from moedge.quant.scheme import MXFP4, NVFP4, scheme_of

pytestmark = needs_kernels
SCHEMES = [
    *(
        scheme_of(bits, block, zero_point, scales)
        for bits, scales in ((4, "float16"), (5, "float8"), (6, "bfloat16"), (8, "float32"), (4, "float8"))
        for block in (16, 32, 64, 128)
        for zero_point in (False, True)
    ),
    MXFP4,
    replace(NVFP4, factor=0.25),
]
SPELT = [f"{scheme.name}-{scheme.scales}" for scheme in SCHEMES]
HIDDEN, INTER, COUNT = 256, 256, 5
NARROW = scheme_of(5, 16, True, "float16")  # its blocks fit where rows and columns are no multiples of much


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=SPELT)
def test_a_product_is_that_of_the_weights(scheme):
    """With 8 bits of activations a hundredth off, with 24 as fp32; alone, together and by any threads the same."""
    rows, columns = 70, 256
    tiles, exact = matrix(rows, columns, scheme)
    x = random(37, columns) * np.logspace(-3, 3, 37, dtype=np.float32)[:, None]
    right = x.astype(np.float64) @ exact.T.astype(np.float64)
    size = np.abs(right).max(axis=1, keepdims=True)
    for bits, bound in ((8, 2e-2), (16, 1e-4), (24, 2e-6)):
        sessions = [open_linear(tiles, rows, columns, scheme, n, bits) for n in (1, 2, 8)]
        whole, *others = (session.run(None, {"x": x})[0] for session in sessions)
        assert (np.abs(whole - right) / size).max() < bound
        assert (np.abs(whole - right) / size).max() > bound * 1e-3  # they are rounded
        alone = np.concatenate([sessions[1].run(None, {"x": x[i : i + 1]})[0] for i in range(len(x))])
        parts = np.concatenate([sessions[2].run(None, {"x": x[i : i + 5]})[0] for i in range(0, len(x), 5)])
        assert all(np.array_equal(whole, other) for other in (*others, alone, parts))


@pytest.mark.parametrize("scheme", SCHEMES, ids=SPELT)
def test_rows_of_a_table_are_its_weights(scheme):
    tiles, exact = matrix(37, 256, scheme)
    attributes = format_of(scheme) | {"rows": 37, "columns": 256}
    session = open_graph("Embedding", {"ids": TensorProto.INT64}, {"w": tiles}, attributes)
    ids = np.array([36, 0, 17, 17, 5])
    assert np.array_equal(session.run(None, {"ids": ids})[0], exact[ids])


def run_exactly(x, select, weights, k, gate, limit=None, biases=None):
    """The weighted sums of experts in double precision."""
    out = np.zeros(x.shape, np.float64)
    for row, scores in enumerate(select):
        chosen = np.argsort(-scores, kind="stable")[:k]
        shares = np.exp(scores[chosen] - scores[chosen].max())
        for expert, share in zip(chosen, shares / shares.sum(), strict=True):
            g, u = (part @ x[row] for part in weights[expert][:2])
            first, second = (0, 0) if biases is None else (biases[0][expert], biases[1][expert])
            if biases is not None:
                g, u = g + first[::2], u + first[1::2]
            if limit is not None:
                g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
            out[row] += share * (weights[expert][2] @ (gate(g) * u) + second)
    return out


@pytest.mark.parametrize("scheme", SCHEMES, ids=SPELT)
def test_experts_are_those_of_the_weights(scheme):
    """Also with many tokens an expert and with few; alone, together and by any threads the same."""
    first, second, exact = experts(COUNT, HIDDEN, INTER, scheme)
    told = expert_attributes(HIDDEN, INTER, 2, scheme)
    x, select = random(90, HIDDEN), random(90, COUNT, seed=1)
    select[:, 3] = -9  # an expert that nobody goes to
    feeds = {"x": x, "select": select}
    sessions = [open_experts(first, second, told, threads=n) for n in (1, 2, 8)]
    whole, *others = (session.run(None, feeds)[0] for session in sessions)
    right = run_exactly(x, select, exact, 2, lambda g: g / (1 + np.exp(-g)))
    assert np.abs(whole - right).max() < 0.03 * np.abs(right).max()
    by_one, by_seven = (
        np.concatenate(
            [sessions[1].run(None, {n: a[i : i + step] for n, a in feeds.items()})[0] for i in range(0, 90, step)]
        )
        for step in (1, 7)
    )
    assert all(np.array_equal(whole, other) for other in (*others, by_one, by_seven))


@pytest.mark.parametrize("activation", ["swiglu", "geglu_tanh", "geglu_erf", "relu2", "silu"])
def test_every_activation(activation):
    gated = activation not in ("relu2", "silu")
    hidden, inter = 64, 112
    first, second, exact = experts(2, hidden, inter, NARROW)
    if not gated:  # one matrix: that of the gate
        first = first[:, ::2]
        exact = [(gate, np.zeros_like(gate), down) for gate, _, down in exact]
    told = expert_attributes(hidden, inter, 1, NARROW, activation=activation)
    x, select = 2 * random(11, hidden), random(11, 2, seed=1)
    functions = {
        "swiglu": lambda g: g / (1 + np.exp(-g)),
        "silu": lambda g: g / (1 + np.exp(-g)),
        "geglu_tanh": gelu_tanh,
        "geglu_erf": gelu,
        "relu2": lambda g: np.maximum(g, 0) ** 2,
    }
    [out] = open_experts(first, second, told).run(None, {"x": x, "select": select})
    right = np.zeros((11, hidden))
    for row, scores in enumerate(select):
        gate, up, down = exact[int(scores.argmax())]
        right[row] = down @ (functions[activation](gate @ x[row]) * (up @ x[row] if gated else 1))
    assert np.abs(out - right).max() < 0.03 * np.abs(right).max()


def test_biases_and_a_limit():
    first, second, exact = experts(3, 64, 48, NARROW)
    biases = random(3, 96, seed=2), random(3, 64, seed=3)
    x, select = random(20, 64), random(20, 3, seed=1)
    told = expert_attributes(64, 48, 2, NARROW, limit=0.7)
    [out] = open_experts(first, second, told, biases=biases).run(None, {"x": x, "select": select})
    right = run_exactly(x, select, exact, 2, lambda g: g / (1 + np.exp(-g)), 0.7, biases)
    assert np.abs(out - right).max() < 0.03 * np.abs(right).max()


def test_of_equal_scores_the_first_expert_is_chosen():
    first, second, _ = experts(4, 64, 64)
    session = open_experts(first, second, expert_attributes(64, 64, 2))
    x = random(1, 64)

    def run(*scores):
        return session.run(None, {"x": x, "select": np.array([scores], np.float32)})[0]

    assert np.array_equal(run(1, 1, 1, 1), run(1, 1, 0, 0))
    assert np.array_equal(run(0, 1, 1, 1), run(0, 1, 1, 0))
    assert np.isfinite(run(math.nan, 1, math.nan, 0)).all()


def test_what_is_no_number_stays_none():
    tiles, _ = matrix(16, 64)
    x = random(3, 64)
    x[1, 40] = math.nan
    [out] = open_linear(tiles, 16, 64).run(None, {"x": x})
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


@pytest.mark.parametrize("limit", [0.0, 0.5])
@pytest.mark.parametrize("activation", ["swiglu", "geglu_tanh", "geglu_erf", "relu2", "silu"])
def test_what_is_no_number_stays_none_in_experts(activation, limit):
    first, second, _ = experts(2, 64, 64)
    told = expert_attributes(64, 64, 1, activation=activation, limit=limit)
    if activation in ("relu2", "silu"):
        first = first[:, ::2]
    x = random(3, 64)
    x[1, 40] = math.nan
    [out] = open_experts(first, second, told).run(None, {"x": x, "select": random(3, 2, seed=1)})
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


def test_errors_are_no_larger_than_qmoe_s():
    """Of the same codes, both on int8 activations: how far each is from exact arithmetic."""
    scheme, hidden, inter, count, k = scheme_of(4, 32, True), 256, 128, 8, 4
    first, second, exact = experts(count, hidden, inter, replace(scheme, scales="float32"))
    x, select = random(64, hidden), random(64, count, seed=1)
    ours = open_experts(first, second, expert_attributes(hidden, inter, k, scheme), threads=2)
    right = run_exactly(x, select, exact, k, lambda g: g / (1 + np.exp(-g)))
    theirs = open_qmoe(exact, scheme, k)
    errors = [
        np.sqrt(np.mean((session.run(None, {"x": x, "select": select})[0] - right) ** 2)) for session in (ours, theirs)
    ]
    assert errors[0] < 1.05 * errors[1]


def open_qmoe(exact, scheme, k):
    """ONNX Runtime's own operator over the same weights, which the scheme holds without another rounding."""
    gate_up = [quantize(interleave_rows(gate, up), scheme) for gate, up, _ in exact]
    down = [quantize(each, scheme) for *_, each in exact]
    named = {"a": "codes", "as": "scales", "az": "zero_points"}
    values = [
        numpy_helper.from_array(np.stack([getattr(one, kind) for one in part]), name + end)
        for end, part in (("1", gate_up), ("2", down))
        for name, kind in named.items()
    ]
    inputs = ["x", "select", "a1", "as1", "", "a2", "as2", "", "", "", "", "az1", "az2"]
    told = {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0}
    told |= {"expert_weight_bits": 4, "block_size": scheme.block, "accuracy_level": 4, "k": k}
    node = helper.make_node("QMoE", inputs, ["out"], domain="com.microsoft", normalize_routing_weights=1, **told)
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["t", None]) for name in ("x", "select")]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", given, [out], values)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
