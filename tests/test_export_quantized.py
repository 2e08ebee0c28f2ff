"""Quantized bundles: both expert plans against each other, native codes bit for bit, routers of the first layer."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import quantized_checkpoints as quantized
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.blocks import unpack
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest

MODELS = {
    "deepseek": (
        tiny.deepseek_v3(hidden_size=128, q_lora_rank=64, moe_intermediate_size=64, v_head_dim=16),
        "selection_scores",
        1,
    ),
    "qwen3": (tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64), "router_logits", 0),
}
SCHEMES = ("int4", "int4-block32", "int4-block16-zp", "int5", "int6-block64", "int6-zp", "int8", "int8-block64-zp")


def export_both(config, scheme, folder, seed=0):
    """The checkpoint's folder and the bundles of both plans."""
    tiny.save_checkpoint(config, folder / "checkpoint", seed)
    bundles = {}
    for plan in ("if", "fused"):
        bundles[plan] = folder / plan
        export_bundle(folder / "checkpoint", bundles[plan], ExportOptions(parse_plan(scheme), plan))
    return bundles


def run_with(bundle, ids, outputs):
    """Named inner values of the graph for one prompt from an empty cache."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    path = bundle / "with_outputs.onnx"
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    path.unlink()
    feeds = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)}
    for c in read_manifest(bundle).cache:
        room = (1, 0, *c.shape) if c.layout == "rows" else (1, c.shape[0], len(ids), c.shape[1])
        feeds[c.past] = np.zeros(room, np.float32)
    return session.run(outputs, feeds)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", MODELS)
def test_first_router_decides_as_in_the_exact_twin(family, scheme, tmp_path):
    config, scores, layer = MODELS[family]
    bundles = export_both(config, scheme, tmp_path)
    ids = np.random.default_rng(0).integers(2, 211, 300)
    name = f"model.layers.{layer}.mlp.{scores}"
    chosen = []
    for plan in ("if", "fused"):
        [found] = run_with(bundles[plan], ids, [name])
        chosen.append(np.sort(np.argsort(-found, axis=1)[:, : config.num_experts_per_tok], axis=1))
    assert np.array_equal(*chosen)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", MODELS)
def test_fused_is_within_int8_activations_of_the_exact_twin(family, scheme, tmp_path):
    """Where all routers agree, logits differ by what int8 activations cost, about 1 % a layer; routers mostly agree."""
    config, _, _ = MODELS[family]
    bundles = export_both(config, scheme, tmp_path)
    ids = np.random.default_rng(0).integers(2, 211, 100).tolist()
    exact, fused = (Engine.load(bundles[plan]).score(ids) for plan in ("if", "fused"))
    error = np.abs(fused - exact).max(axis=1) / np.abs(exact).max()
    assert np.median(error) < 0.03
    assert np.mean(error < 0.06) > 0.85  # beyond it, a later router near a tie chose otherwise


@pytest.mark.parametrize("scheme", ["int4", "int4-block32-zp", "int5", "int6-zp", "int8", "balanced"])
def test_fused_equals_the_twin_when_activations_are_fp32(scheme, tmp_path):
    """With every kernel at fp32 activations nothing but rounding is left: layouts, scales and routing agree."""
    import subprocess
    import sys

    bundles = export_both(MODELS["deepseek"][0], scheme, tmp_path)
    model = onnx.load(bundles["fused"] / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    onnx.save(model, bundles["fused"] / "model.onnx")
    code = (
        "import sys, numpy as np; from moedge.runtime import Engine\n"
        "ids = np.random.default_rng(0).integers(2, 211, 60).tolist()\n"
        "both = [Engine.load(p, check_hashes=False, allow_slow=True).score(ids) for p in sys.argv[1:]]\n"
        "print(float(np.abs(both[0] - both[1]).max() / np.abs(both[0]).max()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, bundles.values())],
        env={"ORT_QMOE_CPU_QNBIT_GEMM": "0", "PATH": "/usr/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout.splitlines()[-1]) < 1e-4


@pytest.mark.parametrize("scheme", ["int4-block128", "int8"])
def test_published_int4_codes_are_never_requantized(scheme, tmp_path):
    config = MODELS["deepseek"][0]
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    codes, _ = quantized.pack_experts(tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan(scheme), "fused"))
    model = onnx.load(tmp_path / "bundle" / "model.onnx")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert read_manifest(tmp_path / "bundle").experts.block_size == 32
    for layer in range(1, config.num_hidden_layers):
        prefix = f"model.layers.{layer}.mlp.experts"
        both = unpack(tensors[f"{prefix}.gate_up_proj.codes"], 4).astype(int) - 8
        down = unpack(tensors[f"{prefix}.down_proj.codes"], 4).astype(int) - 8
        for e in range(config.n_routed_experts):
            assert np.array_equal(both[e, 0::2], codes[f"{prefix}.{e}.gate_proj"])
            assert np.array_equal(both[e, 1::2], codes[f"{prefix}.{e}.up_proj"])
            assert np.array_equal(down[e], codes[f"{prefix}.{e}.down_proj"])


EXPERT = "model.layers.2.mlp.experts.5.up_proj"


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: t.update({f"{EXPERT}.weight_shape": torch.tensor([63, 128])}), r"weight_shape \[63, 128\]"),
        (lambda t: t.update({f"{EXPERT}.weight_shape": torch.tensor([128, 64])}), r"weight_shape \[128, 64\]"),
        (lambda t: t.update({f"{EXPERT}.weight_packed": t[f"{EXPERT}.weight_packed"][:-1].clone()}), "weight_packed"),
        (lambda t: t.update({f"{EXPERT}.weight_packed": t[f"{EXPERT}.weight_packed"].float()}), "stored as F32"),
        (
            lambda t: t.update({f"{EXPERT}.weight_scale": t[f"{EXPERT}.weight_scale"][:, :3].clone()}),
            "3 groups for 128",
        ),
        (lambda t: t[f"{EXPERT}.weight_scale"].__setitem__((3, 1), torch.nan), "NaN"),
        (lambda t: t.update({f"{EXPERT}.weight_zero_point": torch.zeros(8, 4, dtype=torch.int32)}), "symmetric"),
        (lambda t: t.update({f"{EXPERT}.weight_g_idx": torch.zeros(64, dtype=torch.int32)}), "weight_g_idx"),
    ],
)
def test_broken_native_int4_is_refused(edit, match, tmp_path):
    tiny.save_checkpoint(MODELS["deepseek"][0], tmp_path / "checkpoint", 0)
    quantized.pack_experts(tmp_path / "checkpoint")
    tensors = load_file(tmp_path / "checkpoint" / "model.safetensors")
    edit(tensors)
    save_file(tensors, tmp_path / "checkpoint" / "model.safetensors")
    with pytest.raises(MoedgeError, match=match) as caught:
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
    assert EXPERT in str(caught.value)


def test_native_int4_scores_as_transformers_does(tmp_path):
    config = MODELS["deepseek"][0]
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    _, dense = quantized.pack_experts(tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    model = quantized.dense_model(tmp_path / "checkpoint", dense)
    ids = np.random.default_rng(0).integers(2, 211, 50)
    reference = tiny.reference_logits(model, ids)
    assert (
        np.abs(Engine.load(tmp_path / "bundle").score(ids.tolist()) - reference).max() <= 1e-3 * np.abs(reference).max()
    )


def test_a_model_whose_layers_are_all_dense(tmp_path):
    tiny.save_checkpoint(tiny.deepseek_v3(first_k_dense_replace=3, v_head_dim=16), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int8")))
    assert Engine.load(tmp_path / "bundle").score([5, 6, 7]).shape == (3, 211)


def test_report_names_the_smaller_block(tmp_path):
    config = tiny.qwen3_moe(hidden_size=96, moe_intermediate_size=64)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4-block64")))
    notes = json.loads((tmp_path / "bundle" / "report.json").read_text())["notes"]
    assert any("routed experts: block 32 instead of 64" in note for note in notes)
    assert any("q" in note and "96" in note for note in notes)
