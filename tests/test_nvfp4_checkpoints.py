"""Checkpoints published in NVFP4: their weights in both plans, what the kernel rounds, and what is refused."""

import json

import numpy as np
import nvfp4_checkpoints as nvfp4
import onnx
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.kernel_probe import OVERRIDE, prove_fast_kernel, run_probe
from moedge.runtime.manifest import read_manifest

CONFIG = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64, num_hidden_layers=2, num_experts=4)
IDS = np.random.default_rng(0).integers(2, 211, 60)
EXACT = 2.0**-10
LAYOUTS = {"modelopt": nvfp4.modelopt_nvfp4, "compressed-tensors": nvfp4.compressed_nvfp4}
NOTE = "the factors of their NVFP4 are no powers of two"


def published(folder, encoded, chosen=quantized.EXPERTS, config=CONFIG):
    """The folder of a checkpoint, and what its dequantized weights score."""
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    dense = quantized.convert(folder / "checkpoint", chosen, *encoded)
    model = quantized.dense_model(folder / "checkpoint", dense)
    return folder / "checkpoint", tiny.reference_logits(model, IDS)


def export(folder, plan, scheme="fp32", changes=("routed-experts=int4",)):
    target = folder / f"{scheme}-{plan}"
    export_bundle(folder / "checkpoint", target, ExportOptions(parse_plan(scheme, changes), plan))
    return target


def notes(bundle):
    return json.loads((bundle / "report.json").read_text())["notes"]


def off(bundle, reference):
    return np.abs(Engine.load(bundle).score(IDS.tolist()) - reference).max() / np.abs(reference).max()


@pytest.mark.parametrize("factor", [EXACT, 0.00123])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_experts_are_what_was_published(layout, factor, tmp_path):
    """Exactly where the factor is a power of two; where it is none, to what the kernel's bfloat16 holds."""
    _, reference = published(tmp_path, LAYOUTS[layout](factor))
    twin, fused = export(tmp_path, "if"), export(tmp_path, "fused")
    assert off(twin, reference) < 1e-5
    assert off(fused, reference) < (1e-5 if factor == EXACT else 0.02)
    assert read_manifest(fused).experts.codes == "nvfp4"
    assert any(NOTE in note for note in notes(fused)) == (factor != EXACT)
    assert not any(NOTE in note for note in notes(twin))
    name = {"modelopt": "nvfp4", "compressed-tensors": "compressed-tensors nvfp4"}[layout]
    assert f"routed experts: 24 matrices of {name}: codes unchanged, stored as nvfp4 (published)" in notes(fused)


def test_every_expert_keeps_its_own_factor_and_bytes(tmp_path):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    for expert in range(4):
        for parts, factor in (("(gate|up)", 0.001 + expert / 1000), ("down", 2.0 ** -(8 + expert))):
            chosen = rf".*mlp\.experts\.{expert}\.{parts}_proj"
            quantized.convert(tmp_path / "checkpoint", chosen, *nvfp4.modelopt_nvfp4(factor))
    bundle = export(tmp_path, "fused")
    raw = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(bundle / "model.onnx").graph.initializer}
    tensors = load_file(tmp_path / "checkpoint" / "model.safetensors")
    place = "model.layers.1.mlp.experts"
    assert np.allclose(raw[f"{place}.gate_up_proj.factors"], [0.001, 0.002, 0.003, 0.004])
    assert raw[f"{place}.down_proj.factors"].tolist() == [2.0 ** -(8 + expert) for expert in range(4)]
    for expert in range(4):
        for part, rows in (("gate", slice(0, None, 2)), ("up", slice(1, None, 2)), ("down", slice(None))):
            name = "down_proj" if part == "down" else "gate_up_proj"
            module = f"{place}.{expert}.{part}_proj"
            codes = raw[f"{place}.{name}.codes"][expert, rows]
            scales = raw[f"{place}.{name}.scales"][expert, rows].view(np.uint8)
            assert np.array_equal(codes, tensors[f"{module}.weight"].numpy())
            assert np.array_equal(scales, tensors[f"{module}.weight_scale"].view(torch.uint8).numpy())


def test_scales_of_activations_are_left_out(tmp_path):
    folder, reference = published(tmp_path, nvfp4.modelopt_nvfp4(EXACT))
    modules = [n.removesuffix(".weight_scale_2") for n in load_file(folder / "model.safetensors") if n.endswith("_2")]
    more = {f"{module}.{part}": torch.ones(1) for module in modules for part in ("input_scale", "input_global_scale")}
    quantized.edit_tensors(folder, lambda tensors: tensors.update(more))
    assert off(export(tmp_path, "fused"), reference) < 1e-5


def test_factors_that_gate_and_up_do_not_share_become_integers(tmp_path):
    """The kernel has one for both; eight-bit integers hold every weight."""
    _, reference = published(tmp_path, nvfp4.modelopt_nvfp4())
    twin = export(tmp_path, "if")
    assert off(twin, reference) < 1e-5
    assert f"{read_manifest(twin).experts.bits}-{read_manifest(twin).experts.block_size}" == "8-16"
    expected = "routed experts: 24 matrices of nvfp4: codes unchanged, stored as int8-block16 (published)"
    assert expected in notes(twin)
    assert off(export(tmp_path, "fused"), reference) < 0.1  # int8 activations


def test_other_matrices_become_integers_too(tmp_path):
    _, reference = published(tmp_path, nvfp4.compressed_nvfp4(), quantized.LINEAR)
    assert off(export(tmp_path, "if", "int8", ["embedding=fp32", "lm_head=fp32"]), reference) < 1e-5
    found = notes(tmp_path / "int8-if")
    assert (
        "attention: 8 matrices of compressed-tensors nvfp4: codes unchanged, stored as int8-block16 (published)"
        in found
    )


def test_factors_beside_plain_experts_are_given_up(tmp_path):
    """Those are rounded to factors of our own, which all weights of a matrix share."""
    chosen = r".*layers\.\d\.mlp\.experts\.\d\.gate_proj"
    _, reference = published(tmp_path, nvfp4.modelopt_nvfp4(), chosen)
    bundle = export(tmp_path, "fused", changes=["routed-experts=nvfp4"])
    [told] = [note for note in notes(bundle) if "nvfp4" in note]
    assert told == "routed experts: 8 matrices of nvfp4: dequantized and quantized, stored as nvfp4"
    assert off(bundle, reference) < 1


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_of_floats_beside_layers_of_integers(layer, tmp_path, monkeypatch):
    """Each has its kernel, and each kernel is proved."""
    published(tmp_path, nvfp4.modelopt_nvfp4(EXACT), rf".*layers\.{layer}\.mlp\.experts.*")
    twin, fused = (export(tmp_path, plan, changes=["routed-experts=int4-block32"]) for plan in ("if", "fused"))
    manifest = read_manifest(fused)
    assert {g.scheme for g in manifest.tensors if g.block} == {"nvfp4 (published)", "int4-block32"}
    assert manifest.experts.codes == ("integers" if layer else "nvfp4")  # as many layers of each: the first
    scores = [Engine.load(bundle).score(IDS.tolist()) for bundle in (twin, fused)]
    assert np.abs(scores[0] - scores[1]).max() < 0.05 * np.abs(scores[0]).max()  # int8 activations
    first, other = run_probe(fused / "probe.onnx").values()
    exact, fast = (other, first) if layer else (first, other)
    assert exact < 1e-6 < 1e-3 < fast
    monkeypatch.setenv(OVERRIDE, "fp32")
    with pytest.raises(MoedgeError, match=f"{OVERRIDE}=fp32 turns the fast expert kernel off"):
        prove_fast_kernel(fused, manifest)
    monkeypatch.setattr("onnxruntime.__version__", "1.31.1")
    with pytest.raises(MoedgeError, match=r"1\.31\.1 does not run experts in nvfp4"):
        prove_fast_kernel(fused, manifest, allow_slow=True)


def test_clipped_gates_and_biases_of_experts(tmp_path):
    """In gpt-oss, whose experts stand in two tensors, each by itself."""
    config = tiny_families.small("gpt_oss", intermediate_size=96)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    twin, fused = (export(tmp_path, plan, changes=["routed-experts=nvfp4"]) for plan in ("if", "fused"))
    scores = [Engine.load(bundle).score(IDS.tolist()) for bundle in (twin, fused)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-5 * np.abs(scores[0]).max()


MODULE = "model.layers.0.mlp.experts.1.up_proj"


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: t[f"{MODULE}.weight_scale_2"].zero_(), r"up_proj\.weight_scale_2 is 0\.0, which no weight can be"),
        (lambda t: t[f"{MODULE}.weight_scale_2"].fill_(torch.nan), r"up_proj\.weight_scale_2 is nan"),
        (lambda t: t.update({f"{MODULE}.weight_scale_2": torch.ones(3)}), r"weight_scale_2 has the shape \(3,\)"),
        (lambda t: t.pop(f"{MODULE}.weight_scale"), "has no weight_scale beside it"),
        (lambda t: t.pop(f"{MODULE}.weight_scale_2"), r"up_proj\.weight is stored as U8|stored as F8_E4M3"),
        (lambda t: t.update({f"{MODULE}.weight_scale": t[f"{MODULE}.weight_scale"].float()}), "stored as F32"),
        (lambda t: t[f"{MODULE}.weight_scale"].view(torch.uint8).fill_(127), "its scales hold NaN or infinity"),
    ],
)
def test_what_is_broken_is_told(edit, match, tmp_path):
    folder, _ = published(tmp_path, nvfp4.modelopt_nvfp4(EXACT))
    quantized.edit_tensors(folder, edit)
    with pytest.raises(MoedgeError, match=match):
        export(tmp_path, "fused")


def test_blocks_that_do_not_divide_the_columns(tmp_path):
    config = tiny.qwen3_moe(moe_intermediate_size=40)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    quantized.convert(tmp_path / "checkpoint", r".*experts.*(gate|up)_proj", *nvfp4.modelopt_nvfp4(EXACT))
    down = "model.layers.0.mlp.experts.0.down_proj"

    def edit(tensors):
        rows = len(tensors.pop(f"{down}.weight"))
        tensors[f"{down}.weight"] = torch.zeros(rows, 20, dtype=torch.uint8)
        tensors[f"{down}.weight_scale"] = torch.zeros(rows, 2).to(torch.float8_e4m3fn)
        tensors[f"{down}.weight_scale_2"] = torch.ones(1)

    quantized.edit_tensors(tmp_path / "checkpoint", edit)
    with pytest.raises(MoedgeError, match=r"down_proj\.weight holds NVFP4, whose blocks of 16 do not divide 40"):
        export(tmp_path, "fused")
