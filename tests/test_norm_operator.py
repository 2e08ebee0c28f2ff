"""moedge.AddNorm inside of ONNX Runtime against double precision: alone and together, and what it refuses."""

import numpy as np
import onnxruntime
import pytest
from native import needs_kernels
from onnx import TensorProto, helper, numpy_helper

from moedge.runtime.kernels.library import find_library

pytestmark = needs_kernels
EPS = 1e-5


def open_norm(weight, threads=1, **attributes):
    """A session of the node over a weight."""
    node = helper.make_node("AddNorm", ["x", "delta", "weight"], ["normed", "sum"], domain="moedge", **attributes)
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in (("x", "delta"), ("normed", "sum"))
    )
    graph = helper.make_graph([node], "norm", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(find_library()))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("hidden", [1, 37, 64, 1000])
def test_a_sum_and_its_norm_in_any_company(hidden):
    x, delta, weight = random(70, hidden), random(70, hidden, seed=1), random(hidden, seed=2)
    total = x + delta
    exact = total.astype(np.float64)
    exact = exact / np.sqrt((exact**2).mean(1, keepdims=True) + EPS) * weight
    sessions = [open_norm(weight, threads, eps=EPS) for threads in (1, 2, 8)]
    for session in sessions:
        normed, kept = session.run(None, {"x": x, "delta": delta})
        assert np.array_equal(kept, total)
        assert np.abs(normed - exact).max() < 1e-6 * np.abs(exact).max()
        for step in (1, 3, 33):
            parts = [
                session.run(None, {"x": x[at : at + step], "delta": delta[at : at + step]})[0]
                for at in range(0, 70, step)
            ]
            assert np.array_equal(np.concatenate(parts), normed)


def test_what_is_no_number_stays_with_its_token():
    x, delta, weight = random(20, 37), random(20, 37, seed=1), random(37, seed=2)
    session = open_norm(weight, eps=EPS)
    clean = session.run(None, {"x": x, "delta": delta})
    delta[3, 5] = np.nan
    found = session.run(None, {"x": x, "delta": delta})
    assert np.isnan(found[0][3]).all()
    assert all(np.array_equal(np.delete(a, 3, 0), np.delete(b, 3, 0)) for a, b in zip(clean, found, strict=True))


def test_what_does_not_fit():
    session = open_norm(random(8), eps=EPS)
    for x, delta in ((random(2, 8), random(3, 8)), (random(2, 8), random(2, 9)), (random(8), random(8))):
        with pytest.raises(Exception, match=r"moedge\.AddNorm: what is added does not fit"):
            session.run(None, {"x": x, "delta": delta})
    with pytest.raises(Exception, match=r"moedge\.AddNorm: the weight does not fit"):
        session.run(None, {"x": random(2, 9), "delta": random(2, 9)})
    with pytest.raises(Exception, match=r"moedge\.AddNorm: attribute eps is missing or has"):
        open_norm(random(8))
    normed, total = session.run(None, {"x": random(0, 8), "delta": random(0, 8)})
    assert normed.shape == total.shape == (0, 8)
