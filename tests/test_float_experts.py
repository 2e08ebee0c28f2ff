"""Routed experts in four-bit floats: both plans, published bytes, refusals, what a bundle says, the proof at load."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
from safetensors.torch import load_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.graph.fused import FusedLowering
from moedge.export.graph.probe import build_probe
from moedge.export.graph.saving import save_graph
from moedge.export.hub.fit import estimate
from moedge.export.model.config import SILU, Experts, Gate, Router
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.scheme import MXFP4, NVFP4
from moedge.runtime import Engine
from moedge.runtime.bundle_report import describe, description_lines
from moedge.runtime.kernel_probe import prove_fast_kernel, run_probe
from moedge.runtime.manifest import read_manifest
from moedge.runtime.memory_need import memory_need

IDS = np.random.default_rng(0).integers(2, 211, 60).tolist()
# a softmax over the chosen and one over all; sigmoids with a bias; clipped gates and biases of experts
MODELS = {
    "qwen3": tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64),
    "olmoe": tiny_families.small("olmoe", hidden_size=64, intermediate_size=96),
    "deepseek": tiny.deepseek_v3(hidden_size=128, q_lora_rank=64, moe_intermediate_size=64, v_head_dim=16),
    "gpt_oss": tiny_families.small("gpt_oss", intermediate_size=96),
}
SCHEMES = {"mxfp4": 4.25, "nvfp4": 4.5}


def export(folder, scheme, plan="fused", others="fp32"):
    target = folder / f"{scheme}-{plan}"
    options = ExportOptions(parse_plan(others, [f"routed-experts={scheme}"]), plan)
    export_bundle(folder / "checkpoint", target, options)
    return target


def experts_of(bundle):
    return next(group for group in read_manifest(bundle).tensors if group.name == "routed experts" and group.block)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", MODELS)
def test_the_kernel_computes_what_its_twin_of_standard_operators_does(family, scheme, tmp_path):
    tiny.save_checkpoint(MODELS[family], tmp_path / "checkpoint", 0)
    twin, fused = (export(tmp_path, scheme, plan) for plan in ("if", "fused"))
    exact, found = (Engine.load(bundle).score(IDS) for bundle in (twin, fused))
    assert np.abs(found - exact).max() < 2e-5 * np.abs(exact).max()
    assert {node.domain for node in onnx.load(twin / "model.onnx").graph.node} == {""}
    one_by_one = Engine.load(fused).score(IDS[:3])
    assert np.abs(one_by_one - exact[:3]).max() < 2e-5 * np.abs(exact).max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_bundle_says_of_them(scheme, tmp_path):
    tiny.save_checkpoint(MODELS["qwen3"], tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, scheme, others="int4-block32")
    manifest, group = read_manifest(bundle), experts_of(bundle)
    assert (manifest.experts.codes, manifest.experts.plan) == (scheme, "fused")
    assert manifest.scheme == f"int4-block32, routed-experts={scheme}"
    assert group.scheme == scheme
    assert SCHEMES[scheme] <= 8 * group.bytes / group.parameters < SCHEMES[scheme] + 0.02
    assert any(
        f"plan        fused, {scheme} in blocks of {group.block}" in line for line in description_lines(manifest)
    )
    listed = next(g for g in describe(manifest)["tensors"] if g["name"] == "routed experts")
    assert listed["estimated_memory_bytes"] == group.bytes  # mapped, never packed
    assert group.cast_bytes == 0
    assert estimate([group], False, "fused").memory == estimate([group], False, "fused").disk == group.bytes
    [told] = [o for o in json.loads((bundle / "report.json").read_text())["origins"] if o["group"] == "routed experts"]
    assert (told["outcome"], told["scheme"]) == ("quantized", scheme)


def test_bundles_of_integers_say_so(tmp_path):
    tiny.save_checkpoint(MODELS["qwen3"], tmp_path / "checkpoint", 0)
    manifest = read_manifest(export(tmp_path, "int4-block32"))
    assert manifest.experts.codes == "integers"
    assert memory_need(manifest, 1, 128, "float16").weights > 0


@pytest.mark.parametrize("scheme", ["int4", "int4-block32-zp", "int8", "mxfp4", "nvfp4"])
@pytest.mark.parametrize("plan", ["fused", "if"])
def test_gpt_oss_goes_into_the_bundle_byte_for_byte(plan, scheme, tmp_path):
    tiny.save_checkpoint(MODELS["gpt_oss"], tmp_path / "checkpoint", 0)
    dense = quantized.mxfp4_experts(tmp_path / "checkpoint", 0)
    published = load_file(tmp_path / "checkpoint" / "model.safetensors")
    bundle = export(tmp_path, scheme, plan)
    assert read_manifest(bundle).experts.codes == "mxfp4"
    model = tiny.reference_logits(quantized.dense_model(tmp_path / "checkpoint", dense), np.array(IDS))
    found = Engine.load(bundle).score(IDS)
    assert np.abs(found - model).max() <= 1e-4 * np.abs(model).max()
    if plan == "if":
        return
    assert 8 * experts_of(bundle).bytes == 4.25 * experts_of(bundle).parameters
    raw = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(bundle / "model.onnx").graph.initializer}
    for layer in range(2):
        for name in ("gate_up_proj", "down_proj"):
            place = f"model.layers.{layer}.mlp.experts.{name}"
            assert raw[f"{place}.codes"].tobytes() == published[f"{place}_blocks"].numpy().tobytes()
            assert raw[f"{place}.scales"].tobytes() == published[f"{place}_scales"].numpy().tobytes()


def test_no_layer_is_raised_above_what_was_published_or_asked_for(tmp_path):
    tiny.save_checkpoint(MODELS["gpt_oss"], tmp_path / "checkpoint", 0)
    asked = export(tmp_path, "nvfp4", others="balanced")
    quantized.mxfp4_experts(tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "published", ExportOptions(parse_plan("balanced")))
    for bundle, scheme in ((asked, "nvfp4"), (tmp_path / "published", "mxfp4 (published)")):
        groups = [group for group in read_manifest(bundle).tensors if group.name == "routed experts" and group.block]
        assert [group.scheme for group in groups] == [scheme]


@pytest.mark.parametrize("changes", [["attention=nvfp4"], ["routed-experts=nvfp4", "lm_head=mxfp4"]])
def test_no_other_group_can_have_them(changes, tmp_path):
    tiny.save_checkpoint(MODELS["qwen3"], tmp_path / "checkpoint", 0)
    with pytest.raises(MoedgeError, match=r"cannot have (nv|mx)fp4, which only the kernel of routed experts reads"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "b", ExportOptions(parse_plan("int4", changes)))
    with pytest.raises(MoedgeError, match=r"use --scheme int4 --group routed-experts=mxfp4\.$"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "b", ExportOptions(parse_plan("mxfp4")))


def test_widths_that_the_kernel_does_not_take(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(moe_intermediate_size=48), tmp_path / "checkpoint", 0)
    for scheme in SCHEMES:
        with pytest.raises(MoedgeError, match=rf"48 is no multiple of 32, which {scheme} needs\): use --group "):
            export(tmp_path, scheme)


EXPERTS = Experts(4, 2, 64, Router("softmax", True))


@pytest.mark.parametrize("gate", [SILU, Gate(1.702, 1.0, 7.0)])
@pytest.mark.parametrize("scheme", [MXFP4, NVFP4, replace(NVFP4, name="nvfp4 (published)", factor=None)])
def test_the_probe_is_exact_here_and_tells_a_wrong_result(scheme, gate, tmp_path):
    save_graph(build_probe([scheme], replace(EXPERTS, gate=gate)), tmp_path / "probe.onnx")
    assert run_probe(tmp_path / "probe.onnx")[""] < 1e-6
    model = onnx.load(tmp_path / "probe.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "down_codes":
            codes = bytearray(tensor.raw_data)
            codes[:64] = bytes(byte ^ 0x88 for byte in codes[:64])  # other signs
            tensor.raw_data = bytes(codes)
    onnx.save(model, tmp_path / "probe.onnx")
    assert run_probe(tmp_path / "probe.onnx")[""] > 0.01


def test_a_wrong_result_is_an_error_at_load_and_so_is_an_old_onnxruntime(tmp_path, monkeypatch):
    tiny.save_checkpoint(MODELS["qwen3"], tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "nvfp4")
    manifest = read_manifest(bundle)
    prove_fast_kernel(bundle, manifest)
    monkeypatch.setattr("moedge.runtime.kernel_probe.run_probe", lambda _: {"": 0.02})
    with pytest.raises(MoedgeError, match=r"computes wrong results on this CPU.*--experts if"):
        prove_fast_kernel(bundle, manifest, allow_slow=True)
    monkeypatch.setattr("onnxruntime.__version__", "1.31.1")
    with pytest.raises(MoedgeError, match=r"1\.31\.1 does not run experts in nvfp4: install 1\.32 or later"):
        prove_fast_kernel(bundle, manifest, allow_slow=True)


def test_a_resumed_export_has_the_same_factors(tmp_path, monkeypatch):
    """They lie in the weights file, since nothing is read again for what is kept."""
    tiny.save_checkpoint(MODELS["qwen3"], tmp_path / "checkpoint", 0)
    whole = export(tmp_path, "nvfp4")
    head = FusedLowering.head

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FusedLowering, "head", fail)
    options = ExportOptions(parse_plan("fp32", ["routed-experts=nvfp4"]), "fused", resume=True)
    with pytest.raises(MoedgeError):
        export_bundle(tmp_path / "checkpoint", tmp_path / "again", options)
    monkeypatch.setattr(FusedLowering, "head", head)
    export_bundle(tmp_path / "checkpoint", tmp_path / "again", options)
    assert (tmp_path / "again" / "weights.bin").read_bytes() == (whole / "weights.bin").read_bytes()
    assert json.loads((tmp_path / "again" / "report.json").read_text())["resumed_after"]
