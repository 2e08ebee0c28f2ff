"""Whole tiny checkpoints in every published format: what they score, which codes stay, and what the report says."""

import json

import numpy as np
import nvfp4_checkpoints as nvfp4
import onnx
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.blocks import Codes, dequantize
from moedge.quant.scheme import parse_scheme
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest

CONFIG = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=128, num_hidden_layers=2, num_experts=4)
IDS = np.random.default_rng(0).integers(2, 211, 60)

# encoder, and the scheme that holds the codes of routed experts as they are; "": they must be rounded again
FORMATS = {
    "int4 group 32": (quantized.packed(4, 32), "int4-block32"),
    "int4 group 64": (quantized.packed(4, 64), "int4-block64"),
    "int4 group 128, zero points": (
        quantized.packed(4, 128, False),
        "int4-block64-zp",
    ),  # one block of 128 a row is odd
    "int4 group 32, zero points": (quantized.packed(4, 32, False), "int4-block32-zp"),
    "int4 a row": (quantized.packed(4, None), "int4-block128"),
    "int4 group 8": (quantized.packed(4, 8), ""),
    "int8 group 64": (quantized.packed(8, 64), "int8-block64"),
    "int8 a row": (quantized.int8(), "int8-block128"),
    "int8 a row, zero points": (quantized.int8(False), "int8-block128-zp"),
    "fp8 128": (quantized.fp8(), ""),
    "fp8 ragged": (quantized.fp8(48, 56), ""),
    "compressed fp8 blocks": (quantized.compressed_fp8("block", [32, 64]), ""),
    "compressed fp8 a row": (quantized.compressed_fp8("channel"), ""),
    "compressed fp8 whole": (quantized.compressed_fp8("tensor"), ""),
    "compressed mxfp4": (quantized.compressed_mxfp4(), "mxfp4"),
    "nvfp4": (nvfp4.modelopt_nvfp4(0.00123), "nvfp4"),
    "compressed nvfp4": (nvfp4.compressed_nvfp4(2.0**-10), "nvfp4"),
    "gptq": (quantized.gptq(4, 128), "int4-block128"),
    "gptq v2": (quantized.gptq(4, 64, version=2), "int4-block64"),
    "gptq, zero points": (quantized.gptq(4, 32, symmetric=False), "int4-block32-zp"),
    "gptq a row": (quantized.gptq(4, -1), "int4-block128"),
    "gptq 8 bits": (quantized.gptq(8, 32, symmetric=False, version=2), "int8-block32-zp"),
    "gptq act-order": (quantized.gptq(4, 32, ordered=True), ""),
    "awq": (quantized.awq(32), "int4-block32-zp"),
    "awq 128": (quantized.awq(128), "int4-block64-zp"),
}


def export(folder, scheme, plan=None):
    plan = plan or ("if" if scheme == "fp32" else "fused")
    target = folder / f"{scheme}-{plan}"
    export_bundle(folder / "checkpoint", target, ExportOptions(parse_plan(scheme), plan))
    return target


def report(bundle):
    return json.loads((bundle / "report.json").read_text())


def bundle_experts(bundle, layer):
    """The routed experts of a layer as fp32, dequantized from the initializers: gate, up and down [E, N, K]."""
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(bundle / "model.onnx").graph.initializer}
    kernel = read_manifest(bundle).experts
    numbers = "integers" if kernel.codes == "integers" else "floats"
    weights = []
    for name in ("gate_up_proj", "down_proj"):
        codes, scales, by_row, zeros, factors = (
            tensors.get(f"model.layers.{layer}.mlp.experts.{name}.{part}")
            for part in ("codes", "scales", "row_scales", "zero_points", "factors")
        )
        whole = scales.astype(np.float32) * (1 if by_row is None else by_row.astype(np.float32))
        weights.append([])
        for e in range(len(codes)):
            zero, factor = None if zeros is None else zeros[e], 1.0 if factors is None else float(factors[e])
            made = Codes(codes[e], whole[e], zero, kernel.bits, kernel.block_size, numbers, factor)
            weights[-1].append(dequantize(made))
    both, down = (np.stack(w) for w in weights)
    return both[:, 0::2], both[:, 1::2], down


def fits(ours, reference):
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_scores_as_its_dequantized_weights_and_keeps_the_codes_that_fit(name, tmp_path):
    (encode, config), native = FORMATS[name]
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    dense = quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, encode, config)
    reference = tiny.reference_logits(quantized.dense_model(tmp_path / "checkpoint", dense), IDS)
    fits(Engine.load(export(tmp_path, "fp32")).score(IDS.tolist()), reference)

    bundle = export(tmp_path, "int4-block32" if native == "" else "int4-block64")
    kernel = read_manifest(bundle).experts
    expected = parse_scheme(native or "int4-block32")
    assert (kernel.bits, kernel.block_size, kernel.zero_point) == (expected.bits, expected.block, expected.zero_point)
    for part, weights in zip(("gate", "up", "down"), bundle_experts(bundle, 1), strict=True):
        for e, weight in enumerate(weights):
            published = dense[f"model.layers.1.mlp.experts.{e}.{part}_proj.weight"].numpy()
            assert np.array_equal(weight, published) == bool(native)
            assert np.square(weight - published).mean() < 0.02 * np.square(published).mean()  # what int4 costs
    outcomes = {o["group"]: (o["outcome"], o["matrices"]) for o in report(bundle)["origins"]}
    outcome = "codes unchanged" if native else "dequantized and quantized"
    assert outcomes["routed experts"] == (outcome, 2 * 4 * 3)
    assert outcomes["attention"] == (outcome, 2 * 4)
    assert outcomes["lm_head"] == ("quantized", 1)


@pytest.mark.parametrize("name", ["awq 128", "gptq, zero points", "gptq 8 bits", "int8 a row", "compressed mxfp4"])
def test_both_plans_read_native_codes_alike(name, tmp_path, monkeypatch):
    """To rounding, where every kernel keeps fp32 activations."""
    (encode, config), _ = FORMATS[name]
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, encode, config)
    exact = Engine.load(export(tmp_path, "int4", "if")).score(IDS.tolist())
    fused = export(tmp_path, "int4", "fused")
    error = np.abs(Engine.load(fused).score(IDS.tolist()) - exact).max(axis=1) / np.abs(exact).max()
    assert np.median(error) < 0.03  # int8 activations, on the fast kernel: the engine proves it when it loads
    same = tiny.with_exact_kernels(fused, monkeypatch).score(IDS.tolist())
    assert np.abs(same - exact).max() < 1e-4 * np.abs(exact).max()


def test_deepseek_with_every_matrix_in_fp8_blocks(tmp_path):
    """Latent attention's factors and the router are kept in fp32, out of blocks that end within them."""
    config = tiny.deepseek_v3(hidden_size=80, moe_intermediate_size=48, v_head_dim=16, kv_lora_rank=40)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    encode, quantization = quantized.fp8(32, 64)
    chosen = r".*(_proj|_proj_with_mqa|mlp\.gate)"
    dense = quantized.convert(tmp_path / "checkpoint", chosen, encode, quantization)
    assert any("kv_b_proj" in name for name in dense)
    assert any(name.endswith("mlp.gate.weight") for name in dense)
    model = quantized.dense_model(tmp_path / "checkpoint", dense)
    bundle = export(tmp_path, "fp32")
    fits(Engine.load(bundle).score(IDS.tolist()), tiny.reference_logits(model, IDS))
    lines = {(o["group"], o["outcome"]): o["matrices"] for o in report(bundle)["origins"]}
    assert lines["router", "dequantized"] == 2
    assert lines["attention", "dequantized"] == 3 * 5  # q_a, q_b, kv_a, kv_b, o
    assert "attention: 15 matrices of fp8 in blocks of 32 x 64: dequantized, stored as fp32" in report(bundle)["notes"]


def test_gpt_oss_in_mxfp4(tmp_path):
    config = tiny_families.small("gpt_oss", intermediate_size=96)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    dense = quantized.mxfp4_experts(tmp_path / "checkpoint", 0)
    model = quantized.dense_model(tmp_path / "checkpoint", dense)
    fits(Engine.load(export(tmp_path, "fp32")).score(IDS.tolist()), tiny.reference_logits(model, IDS))
    bundle = export(tmp_path, "int4-block32")
    assert read_manifest(bundle).experts.codes == "mxfp4"
    gate, up, down = bundle_experts(bundle, 2)
    published = dense["model.layers.2.mlp.experts.gate_up_proj"].numpy()
    assert np.array_equal(gate, published[..., 0::2].transpose(0, 2, 1))
    assert np.array_equal(up, published[..., 1::2].transpose(0, 2, 1))
    assert np.array_equal(down, dense["model.layers.2.mlp.experts.down_proj"].numpy().transpose(0, 2, 1))
    note = "routed experts: 48 matrices of mxfp4: codes unchanged, stored as mxfp4 (published)"
    assert note in report(bundle)["notes"]


def test_groups_of_mixed_formats(tmp_path):
    """Codes of several kinds share the scheme that holds them all; beside plain matrices those that fit still stay."""
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    dense = {}
    parts = {"gate": quantized.packed(4, 128), "up": quantized.packed(4, 64, False), "down": quantized.packed(4, 32)}
    for part, (encode, config) in parts.items():
        chosen = rf".*layers\.1\.mlp\.experts\.\d\.{part}_proj"
        dense |= quantized.convert(tmp_path / "checkpoint", chosen, encode, config)
    encode, config = parts["up"]
    dense |= quantized.convert(
        tmp_path / "checkpoint", r".*layers\.0\.mlp\.experts\.\d\.(gate|up)_proj", encode, config
    )
    config["config_groups"]["group_1"] = parts["gate"][1]["config_groups"]["group_0"]
    config["config_groups"]["group_2"] = parts["down"][1]["config_groups"]["group_0"]
    quantized.edit_config(tmp_path / "checkpoint", quantization_config=config)
    bundle = export(tmp_path, "int4-block64-zp")
    routed = [o for o in report(bundle)["origins"] if o["group"] == "routed experts"]
    found = {
        (o["format"].removeprefix("compressed-tensors "), o["outcome"], o["scheme"]): o["matrices"] for o in routed
    }
    assert found == {
        ("int4 group 64, with zero points", "codes unchanged", "int4-block64-zp"): 8,
        ("f32", "quantized", "int4-block64-zp"): 4,
        ("int4 a scale a row", "codes unchanged", "int4-block32-zp (published)"): 4,
        ("int4 group 64, with zero points", "codes unchanged", "int4-block32-zp (published)"): 4,
        ("int4 group 32", "codes unchanged", "int4-block32-zp (published)"): 4,
    }
    model = quantized.dense_model(tmp_path / "checkpoint", dense)
    fits(Engine.load(export(tmp_path, "fp32")).score(IDS.tolist()), tiny.reference_logits(model, IDS))


def test_scales_of_activations_are_left_out_and_biases_of_zeros_too(tmp_path):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, *quantized.gptq(4, 32))
    path = tmp_path / "checkpoint" / "model.safetensors"
    tensors, expert = load_file(path), "model.layers.0.mlp.experts.1.up_proj"
    tensors |= {f"{expert}.bias": torch.zeros(128), f"{expert}.input_scale": torch.ones(1)}
    save_file(tensors, path)
    export(tmp_path, "int4")
    tensors[f"{expert}.bias"][3] = 1e-3
    save_file(tensors, path)
    with pytest.raises(Exception, match=rf"{expert}\.bias.*has no place"):
        export(tmp_path, "int8")
