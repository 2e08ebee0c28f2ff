from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime.kernel_probe import OVERRIDE, known_reason, prove_fast_kernel, run_probe
from moedge.runtime.manifest import ExpertKernel, Manifest, read_manifest

FAST = ExpertKernel(plan="fused", bits=4, block_size=32, zero_point=False)
WIDTH, EXPERTS, TOKENS, BLOCK = 64, 2, 3, 32


def probe(wrong_by: float = 0.0) -> onnx.ModelProto:
    """Two experts of [64, 64] in int4 blocks of 32, one token each to all of them; `exact` computed here."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((TOKENS, WIDTH), np.float32)
    logits = rng.standard_normal((TOKENS, EXPERTS), np.float32)
    codes = [rng.integers(0, 16, (EXPERTS, rows, WIDTH), np.uint8) for rows in (2 * WIDTH, WIDTH)]
    scales = [rng.uniform(0.01, 0.03, (EXPERTS, c.shape[1], WIDTH // BLOCK)).astype(np.float32) for c in codes]
    first, second = (
        (c.astype(np.float32) - 8) * np.repeat(s, BLOCK, axis=2) for c, s in zip(codes, scales, strict=True)
    )
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    exact = np.zeros_like(x)
    for e in range(EXPERTS):
        hidden = x @ first[e].T
        gate, up = hidden[:, ::2], hidden[:, 1::2]
        exact += share[:, e : e + 1] * ((gate / (1 + np.exp(-gate)) * up) @ second[e].T)
    packed = [c[:, :, ::2] | c[:, :, 1::2] << 4 for c in codes]
    arrays = {"x": x, "logits": logits, "w1": packed[0], "s1": scales[0], "w2": packed[1], "s2": scales[1]}
    arrays["expected"] = (exact * (1 + wrong_by)).astype(np.float32)
    node = helper.make_node(
        "QMoE",
        ["x", "logits", "w1", "s1", "", "w2", "s2"],
        ["actual"],
        domain="com.microsoft",
        k=EXPERTS,
        activation_type="swiglu",
        swiglu_fusion=1,
        activation_alpha=1.0,
        activation_beta=0.0,
        normalize_routing_weights=1,
        expert_weight_bits=4,
        block_size=BLOCK,
        accuracy_level=4,
    )
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [TOKENS, WIDTH]) for name in ("actual", "exact")]
    graph = helper.make_graph(
        [node, helper.make_node("Identity", ["expected"], ["exact"])],
        "probe",
        [],
        outputs,
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_tiny_bundle(tmp_path)
    onnx.save(probe(), tmp_path / "probe.onnx")
    return tmp_path


@pytest.fixture
def manifest(folder) -> Manifest:
    # the toy has 16 channels; what the rules look at is this
    made = read_manifest(folder)
    return replace(made, experts=FAST, model=replace(made.model, hidden_size=WIDTH))


def test_the_fast_kernel_is_off_by_what_int8_activations_cost(folder, manifest):
    assert 1e-3 < run_probe(folder / "probe.onnx")[""] < 0.03
    prove_fast_kernel(folder, manifest)


@pytest.mark.parametrize("value", ["0", "fp32"])
def test_the_fallback_is_an_error_that_names_its_reason(folder, manifest, monkeypatch, value):
    monkeypatch.setenv(OVERRIDE, value)
    assert run_probe(folder / "probe.onnx")[""] < 1e-4
    with pytest.raises(MoedgeError, match=rf"{OVERRIDE}={value} turns the fast expert kernel off.*--allow-slow"):
        prove_fast_kernel(folder, manifest)


def test_a_fallback_without_a_known_reason_is_found_by_the_probe(folder, manifest, monkeypatch):
    monkeypatch.setenv(OVERRIDE, "0")
    monkeypatch.setattr("moedge.runtime.kernel_probe.known_reason", lambda *_: None)
    with pytest.raises(MoedgeError, match="has no fast kernel for 4-bit experts in blocks of 32 on this CPU"):
        prove_fast_kernel(folder, manifest)


def test_allow_slow_warns_on_stderr(folder, manifest, monkeypatch, capsys):
    monkeypatch.setenv(OVERRIDE, "0")
    prove_fast_kernel(folder, manifest, allow_slow=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "warning: the environment variable" in printed.err


@pytest.mark.parametrize("allow_slow", [False, True])
def test_wrong_results_are_always_an_error(folder, manifest, allow_slow):
    onnx.save(probe(wrong_by=0.2), folder / "probe.onnx")
    with pytest.raises(MoedgeError, match="computes wrong results on this CPU"):
        prove_fast_kernel(folder, manifest, allow_slow=allow_slow)
    onnx.save(probe(wrong_by=float("nan")), folder / "probe.onnx")
    with pytest.raises(MoedgeError, match="computes wrong results on this CPU"):
        prove_fast_kernel(folder, manifest, allow_slow=allow_slow)


def test_a_bundle_without_fused_experts_needs_no_probe(folder, manifest):
    (folder / "probe.onnx").unlink()
    prove_fast_kernel(folder, replace(manifest, experts=replace(FAST, plan="if")))
    with pytest.raises(MoedgeError, match=r"probe\.onnx does not run"):
        prove_fast_kernel(folder, manifest)


@pytest.mark.parametrize(
    ("experts", "hidden", "version", "environ", "reason"),
    [
        (FAST, 64, "1.31.0", {}, None),
        (FAST, 64, "2.0.0", {OVERRIDE: "int8"}, None),
        (FAST, 64, "1.30.4", {}, "onnxruntime 1.30.4 has no fast expert kernel"),
        (replace(FAST, bits=32), 64, "1.32.0", {}, "the experts have 32 bits"),
        (replace(FAST, block_size=0), 64, "1.32.0", {}, "the experts have one scale a row"),
        (FAST, 80, "1.32.0", {}, "blocks of 32 do not divide the hidden size 80"),
    ],
)
def test_rules_with_names(experts, hidden, version, environ, reason):
    found = known_reason(experts, hidden, version, environ)
    assert (found is None) if reason is None else found.startswith(reason)
