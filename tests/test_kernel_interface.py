"""Every place of ONNX Runtime's C interface that the kernels use, against the installed version.

runtime/kernels/onnxruntime.h has them by number. Each is used here with a result that another function could not give.
"""

import ctypes
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from house import ROOT
from kernel_graphs import (
    INT4,
    expert_attributes,
    experts,
    format_of,
    linear_attributes,
    matrix,
    open_experts,
    open_graph,
    open_linear,
)
from native import needs_kernels
from onnx import TensorProto

from moedge.runtime.kernels.library import open_library

pytestmark = needs_kernels
FLOAT = TensorProto.FLOAT
PROVED = {
    "CREATE_STATUS": "test_a_fault_is_told_in_words",
    "CREATE_CUSTOM_OP_DOMAIN": "test_a_matrix_of_any_size",
    "CUSTOM_OP_DOMAIN_ADD": "test_a_matrix_of_any_size",
    "ADD_CUSTOM_OP_DOMAIN": "test_a_matrix_of_any_size",
    "GET_TENSOR_MUTABLE_DATA": "test_a_matrix_of_any_size",
    "GET_DIMENSIONS_COUNT": "test_a_fault_is_told_in_words",
    "GET_DIMENSIONS": "test_a_matrix_of_any_size",
    "GET_TENSOR_TYPE_AND_SHAPE": "test_a_matrix_of_any_size",
    "KERNEL_INFO_GET_ATTRIBUTE_FLOAT": "test_numbers_and_words_of_a_node_count",
    "KERNEL_INFO_GET_ATTRIBUTE_INT64": "test_a_matrix_of_any_size",
    "KERNEL_INFO_GET_ATTRIBUTE_STRING": "test_numbers_and_words_of_a_node_count",
    "KERNEL_CONTEXT_GET_INPUT": "test_an_absent_input_is_none",
    "KERNEL_CONTEXT_GET_OUTPUT": "test_a_matrix_of_any_size",
    "RELEASE_STATUS": "test_an_attribute_that_is_not_there",
    "RELEASE_TENSOR_TYPE_AND_SHAPE_INFO": "test_nothing_is_kept_from_run_to_run",
    "KERNEL_CONTEXT_PARALLEL_FOR": "test_all_threads_of_onnxruntime_work",
}


def test_every_place_has_its_proof():
    source = (ROOT / "runtime/kernels/onnxruntime.h").read_text(encoding="utf-8")
    places = re.search(r"enum Place \{(.*?)\}", source, re.DOTALL)[1]
    assert [*PROVED] == re.findall(r"(\w+) = \d+", places)
    used = "".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "runtime/kernels").glob("*.[ch]*"))
    assert all(used.count(f"ort::{place}") for place in PROVED)
    assert {*PROVED.values()} <= {*globals()}


@pytest.mark.parametrize("shape", [(1, 1, 32), (3, 37, 96), (20, 257, 64)])
def test_a_matrix_of_any_size(shape):
    m, rows, columns = shape
    columns *= 2  # zero points of 4 bits go in pairs
    tiles, exact = matrix(rows, columns)
    x = np.random.default_rng(1).standard_normal((m, columns)).astype(np.float32)
    [out] = open_linear(tiles, rows, columns).run(None, {"x": x})
    assert out.shape == (m, rows)
    assert np.abs(out - x @ exact.T).max() < 0.02 * np.abs(out).max()


@pytest.mark.parametrize(
    ("given", "weights"), [((2, 3, 64), (1, 0)), ((2, 32), (1, 0)), ((2, 64), (2, 0)), ((2, 64), (1, 64))]
)
def test_a_fault_is_told_in_words(given, weights):
    tiles, _ = matrix(16, 64)
    tiles = np.zeros((weights[0], tiles.shape[1] + weights[1]), np.uint8)
    with pytest.raises(Exception, match=r"moedge\.Linear: shapes do not fit"):
        open_linear(tiles, 16, 64).run(None, {"x": np.zeros(given, np.float32)})


def test_an_id_that_the_table_has_not():
    tiles, _ = matrix(16, 64)
    attributes = format_of(INT4) | {"rows": 10, "columns": 64}
    session = open_graph("Embedding", {"ids": TensorProto.INT64}, {"w": tiles}, attributes)
    for wrong in (-1, 10, 2**40):
        with pytest.raises(Exception, match="an id is outside of the table"):
            session.run(None, {"ids": np.array([0, wrong])})


@pytest.mark.parametrize("name", linear_attributes(16, 64))
def test_an_attribute_that_is_not_there(name):
    tiles, _ = matrix(16, 64)
    attributes = linear_attributes(16, 64)
    for wrong in ({}, {name: "float7"} if isinstance(attributes[name], str) else {name: -1}):
        rest = {key: value for key, value in attributes.items() if key != name} | wrong
        with pytest.raises(Exception, match=rf"moedge\.Linear: attribute {name} is missing"):
            open_graph("Linear", {"x": FLOAT}, {"w": tiles}, rest)


@pytest.mark.parametrize(
    "wrong", [{"block": 128}, {"block": 48}, {"bits": 7}, {"rows": 2**40}, {"columns": 2**62}, {"columns": 96 + 16}]
)
def test_sizes_that_no_weights_have(wrong):
    """Blocks that are no part of the columns, and numbers whose products would overflow."""
    tiles, _ = matrix(16, 64)
    sizes = linear_attributes(16, 64) | wrong
    for kind, name, of in (("Linear", "x", FLOAT), ("Embedding", "ids", TensorProto.INT64)):
        with pytest.raises(Exception, match=rf"moedge\.{kind}: attribute (block|bits|rows|columns) is missing or"):
            open_graph(kind, {name: of}, {"w": tiles}, sizes)
    first, second, _ = experts(2, 64, 64)
    for size in ("hidden", "inter"):
        told = expert_attributes(64, 64, 1) | {size: wrong.get("columns", 96)} | {"block": wrong.get("block", 64)}
        with pytest.raises(Exception, match=r"moedge\.Experts: attribute"):
            open_experts(first, second, told)


def test_experts_do_not_become_more():
    """Their counts have room for as many as there were at first."""
    few, many = (experts(count, 64, 64) for count in (1, 40))
    kinds = {"x": FLOAT, "select": FLOAT, "weigh": None, "a": TensorProto.UINT8, "b": TensorProto.UINT8}
    session = open_graph("Experts", kinds, {}, expert_attributes(64, 64, 1))

    def run(weights, count):
        feeds = {"x": np.ones((2, 64), np.float32), "select": np.ones((2, count), np.float32)}
        return session.run(None, feeds | {"a": weights[0], "b": weights[1]})

    assert np.isfinite(run(few, 1)[0]).all()
    with pytest.raises(Exception, match="the number of experts has changed"):
        run(many, 40)


def test_numbers_and_words_of_a_node_count():
    first, second, exact = experts(2, 64, 64)
    x = np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32)
    feeds = {"x": x, "select": np.array([[1, 0]] * 4, np.float32)}
    (gate, up, down), _ = exact
    for alpha, beta, scale in ((1.0, 0.0, 1.0), (1.702, 1.0, 2.5)):
        told = expert_attributes(64, 64, 1, alpha=alpha, beta=beta, limit=0.4, routing_scale=scale)
        [out] = open_experts(first, second, told).run(None, feeds)
        g, u = np.minimum(x @ gate.T, 0.4), np.clip(x @ up.T, -0.4, 0.4)
        right = scale * ((g / (1 + np.exp(-alpha * g)) * (u + beta)) @ down.T)
        assert np.abs(out - right).max() < 0.03 * np.abs(right).max()
    with pytest.raises(Exception, match="attribute activation is missing"):
        open_experts(first, second, expert_attributes(64, 64, 1, activation="swish"))


def test_an_absent_input_is_none():
    first, second, _ = experts(3, 64, 64)
    x = np.random.default_rng(3).standard_normal((2, 64)).astype(np.float32)
    select, told = np.array([[2, 1, 0], [0, 0.5, 3]], np.float32), expert_attributes(64, 64, 2)
    [out] = open_experts(first, second, told).run(None, {"x": x, "select": select})
    top = np.sort(select)[:, 1:]
    shares = np.exp(select) / np.exp(top).sum(1, keepdims=True)
    weighed = open_experts(first, second, told, weigh=True)
    assert np.allclose(weighed.run(None, {"x": x, "select": select, "weigh": shares.astype(np.float32)})[0], out, 1e-5)
    bias = np.random.default_rng(4).standard_normal((3, 64)).astype(np.float32)
    [more] = open_experts(first, second, told, biases=(None, bias)).run(None, {"x": x, "select": select})
    chosen = np.where(select >= top[:, :1], shares, 0)
    assert np.allclose(more - out, chosen @ bias, atol=1e-4)


def test_nothing_is_kept_from_run_to_run():
    tiles, _ = matrix(16, 64)
    session, x = open_linear(tiles, 16, 64), {"x": np.zeros((1, 64), np.float32)}

    def grown(runs):
        before = psutil.Process().memory_info().rss
        for _ in range(runs):
            session.run(None, x)
        return psutil.Process().memory_info().rss - before

    grown(2_000)
    assert grown(20_000) < 1 << 20  # two shapes a run, of more than 100 bytes each, would be 4 MB


def test_all_threads_of_onnxruntime_work():
    rows, columns, count = 4096, 1024, 3
    tiles, _ = matrix(rows, columns)
    before = {thread.id for thread in psutil.Process().threads()}
    session = open_linear(tiles, rows, columns, threads=count)
    x = np.random.default_rng(5).standard_normal((64, columns)).astype(np.float32)

    def work():
        spent = {t.id: t.user_time for t in psutil.Process().threads() if t.id not in before}
        return sum(seconds > 0 for seconds in spent.values())

    for _ in range(2_000):
        session.run(None, {"x": x})
        if work() == count - 1:  # the caller is one of them
            break
    assert work() == count - 1


def test_usage_is_counted_for_its_owner():
    library, (first, second, _) = open_library(), experts(4, 64, 64)
    told = expert_attributes(64, 64, 2, layer=7)
    with library.owned(91):
        session = open_experts(first, second, told)
    other = open_experts(first, second, told)
    select = np.array([[3, 2, 0, 0], [3, 0, 2, 0], [3, 0, 0, 2]], np.float32)
    feeds = {"x": np.ones((3, 64), np.float32), "select": select}
    other.run(None, feeds)
    with pytest.raises(LookupError):
        library.usage(91, 7, 4)
    worker = threading.Thread(target=lambda run=session.run: [run(None, feeds) for _ in range(2)])
    worker.start()
    worker.join()
    assert library.usage(91, 7, 4).tolist() == [6, 2, 2, 2]
    del session, worker
    with pytest.raises(LookupError):
        library.usage(91, 7, 4)


INSTRUCTION_SETS = """
import hashlib, numpy as np
from kernel_graphs import matrix, open_linear
from moedge.runtime.kernels.library import open_library
x = np.linspace(-1, 1, 40 * 256, dtype=np.float32).reshape(40, 256)
out = open_linear(matrix(100, 256)[0], 100, 256).run(None, {"x": x})
print(open_library().isa, hashlib.sha256(out[0].tobytes()).hexdigest())
"""


def test_the_environment_names_an_instruction_set():
    """And all give the same bytes."""

    def ask(isa):
        environ = os.environ | {"MOEDGE_ISA": isa, "PYTHONPATH": str(Path(__file__).parent)}
        words = [sys.executable, "-c", INSTRUCTION_SETS]
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=False)

    usual, scalar = (ask(isa).stdout.split() for isa in ("", "scalar"))
    assert usual[0] != "scalar"
    assert scalar == ["scalar", usual[1]]
    assert "MOEDGE_ISA names an instruction set that this CPU does not have" in ask("z80").stderr


def test_an_onnxruntime_that_lends_no_threads_is_told():
    """Before 1.17 there is no interface of version 17, and a status is made at the same place."""
    made = []
    make = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p)(lambda *told: made.append(told) or 4711)
    table = (ctypes.c_void_p * 1)(ctypes.cast(make, ctypes.c_void_p))
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(
        lambda version: ctypes.addressof(table) if version == 1 else None
    )
    base = (ctypes.c_void_p * 2)(ctypes.cast(get_api, ctypes.c_void_p), None)
    register = ctypes.CDLL(str(open_library().path)).RegisterCustomOps
    register.restype = ctypes.c_size_t
    assert register(None, base) == 4711
    assert made == [(1, b"this onnxruntime is older than 1.17 and lends no threads to moedge's operators")]
