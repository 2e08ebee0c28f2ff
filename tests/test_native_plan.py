"""The `native` plan: its graph, whose tile rows are the fused plan's codes, and what a bundle says of it."""

import json

import numpy as np
import onnx
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
from native import fused_weights, needs_kernels, nodes_of, scheme_in, weights_of

from moedge.devices.errors import MoedgeError
from moedge.export import rehearsal
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.sensitivity import planning
from moedge.runtime import Engine
from moedge.runtime.bundle_report import description_lines
from moedge.runtime.cli import main
from moedge.runtime.kernels import library
from moedge.runtime.kernels.library import find_library
from moedge.runtime.manifest import read_manifest
from moedge.runtime.memory_need import memory_need
from moedge.runtime.sizes import loading_bytes, model_memory_bytes

IDS = np.random.default_rng(0).integers(2, 211, 60).tolist()
# Blocks of all sizes fit: 128 columns everywhere but in attention's latent rows.
WIDE = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=128, intermediate_size=128, head_dim=64)
SCHEMES = (
    *(f"int4-block{block}{zero}" for block in (16, 32, 64) for zero in ("", "-zp")),
    *(
        "int4-block128",
        "int5",
        "int5-zp",
        "int6",
        "int6-zp",
        "int8",
        "int8-block128-zp",
        "balanced",
        "fast",
        "faithful",
    ),
    *("int4 routed-experts=mxfp4", "int8 routed-experts=nvfp4"),
)


def export(folder, scheme, plan, **options):
    name, *changes = scheme.split()
    target = folder / f"{len(list(folder.iterdir()))}-{plan}"
    export_bundle(folder / "checkpoint", target, ExportOptions(parse_plan(name, changes), plan, **options))
    return target


def notes_of(bundle):
    return json.loads((bundle / "report.json").read_text())["notes"]


@needs_kernels
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_as_near_to_its_twin_as_in_the_fused_plan(scheme, tmp_path):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    exact, fused, found = (Engine.load(export(tmp_path, scheme, p)).score(IDS) for p in ("if", "fused", "native"))
    theirs, ours = (np.abs(s - exact).max(axis=1) / np.abs(exact).max() for s in (fused, found))
    assert 1e-4 < np.median(ours) < 0.03  # not below: int8 activations are in use
    if "fp4" not in scheme:  # QMoE keeps fp32 activations with those
        # activations have a scale for 32 columns, and in the fused plan one for each block
        assert np.median(ours) < (1.4 if "block16" in scheme else 1.1) * np.median(theirs)


@pytest.mark.parametrize("scales", ["float32", "float16", "float8"])
@pytest.mark.parametrize("scheme", ["int4-block32-zp", "int5-zp", "int6", "int8"])
def test_tile_rows_hold_what_the_fused_plan_stores(scheme, scales, tmp_path):
    """Experts too, whose rows of gate and up are parted."""
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    both = f"{scheme} embedding={scheme} lm_head={scheme}"
    native, fused = (export(tmp_path, both, plan, scale_dtype=scales) for plan in ("native", "fused"))
    ours, kept = weights_of(native), scheme_in(nodes_of(native, "Linear")[0][1])
    assert len(ours) == 2 + 3 * (2 + 2)
    assert (kept.scales, parse_plan(scheme).default.bits) == (scales, kept.bits)
    for name, weights in ours.items():
        rows = weights.reshape(-1, weights.shape[-1])
        assert np.array_equal(rows, fused_weights(fused, name, kept, rows.shape)), name


def test_published_four_bit_floats_are_kept_with_the_factor_of_each_expert(tmp_path):
    config = tiny_families.small("gpt_oss", intermediate_size=96)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    dense = quantized.mxfp4_experts(tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4", "native")
    told = nodes_of(bundle, "Experts")[0][1]
    assert (told["numbers"], told["scales"], told["bits"], told["block"]) == (b"floats", b"float8e8m0", 4, 32)
    assert read_manifest(bundle).experts.codes == "mxfp4"
    ours = weights_of(bundle)
    places = [name for name in ours if ".experts." in name]
    assert len(places) == 6
    for place in places:
        published = dense[place].numpy()
        published = published if published.shape == ours[place].shape else published.swapaxes(1, 2)
        assert np.array_equal(ours[place], published), place


def test_what_the_graph_is_made_of(tmp_path):
    config = tiny.deepseek_v3(tie_word_embeddings=True, q_lora_rank=64, v_head_dim=16)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4-block32-zp", "native")
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    assert {"Linear", "Embedding", "Experts"} <= kinds
    assert not kinds & {"QMoE", "MatMulNBits", "GatherBlockQuantized", "DequantizeLinear"}
    assert {(v.domain, v.version) for v in onnx.load(bundle / "model.onnx").opset_import} >= {("moedge", 1)}
    assert not {path.name for path in bundle.iterdir()} & {"probe.onnx", "genai_config.json"}
    assert [output.name for output in graph.output if "logits" in output.name] == ["logits"]
    linears, experts, tables = (nodes_of(bundle, kind) for kind in ("Linear", "Experts", "Embedding"))
    assert linears[-1][0][1] == tables[0][0][1] == "model.embed_tokens.tiles"
    assert [told["layer"] for _, told in experts] == [1, 2]
    assert {told["routing_scale"] for _, told in experts} == {2.5}
    assert {(told["activation"], told["k"], told["hidden"], told["inter"]) for _, told in experts} == {
        (b"swiglu", 3, 64, 32)
    }
    order = [node.op_type for node in graph.node]
    first = sum(kind == "Linear" for kind in order[: order.index("Experts")])
    bits = [told["activation_bits"] for _, told in linears]
    shared = 2  # of layer 1, which are built after its router and lie before or after its experts
    assert bits[: first - shared] == [24] * (first - shared)
    assert set(bits[first:]) == {8}


def test_a_layer_is_seven_nodes(tmp_path):
    """Mixer and experts between two norms that add what came before them; nothing reshapes, splits or rotates."""
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4", "native")
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    layer = ["Linear", "Attention", "Linear", "AddNorm", "Router", "Experts"]
    first = kinds.index("Linear")
    assert kinds[first : first + 20] == [*layer, "AddNorm"] * 2 + layer
    caches = [f"past_key_values.{n}.{part}" for n in range(3) for part in ("key", "value")]
    assert [value.name for value in graph.input] == ["input_ids", "segments", "logits_rows", *caches]
    told = nodes_of(bundle, "Attention")
    assert [attributes["activation_bits"] for _, attributes in told] == [24, 8, 8]
    assert [tensor.exact for tensor in read_manifest(bundle).cache] == [True, True, *4 * [False]]


def test_biases_and_limits_are_the_operator_s_own(tmp_path):
    tiny.save_checkpoint(tiny_families.small("gpt_oss", intermediate_size=96), tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4", "native")
    for inputs, told in nodes_of(bundle, "Experts"):
        assert [name.rpartition("experts.")[2] for name in inputs[3:]] == [
            "gate_up_proj.tiles", "down_proj.tiles", "gate_up_proj.bias", "down_proj.bias",
        ]  # fmt: skip
        assert (round(told["alpha"], 3), told["beta"], told["limit"]) == (1.702, 1, 7)


def test_what_a_bundle_says_of_its_size(tmp_path):
    """Nothing is packed, joined or cast: it is as large in memory as on disk."""
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "balanced", "native")
    manifest = read_manifest(bundle)
    assert (manifest.experts.plan, manifest.experts.bits) == ("native", 5)
    assert model_memory_bytes(manifest) == sum(group.bytes for group in manifest.tensors)
    assert memory_need(manifest, 1, 100, "float16").loading == loading_bytes(manifest) == 0
    assert "  plan        native, int5 in blocks of 32" in description_lines(manifest)


def test_limits_of_what_unpacks_weights_are_none_of_its_own(tmp_path, monkeypatch):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    for module, name in ((rehearsal, "MOST_JOINING_BYTES"), (rehearsal, "MOST_CAST_BYTES")):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(planning, "MOST_JOINING_BYTES", 0)
    native, fused = (read_manifest(export(tmp_path, "balanced", plan)) for plan in ("native", "fused"))
    assert {group.bits for group in native.tensors} == {5, 6, 32}
    assert {group.scales for group in native.tensors if group.block} == {"float8"}
    assert {group.bits for group in fused.tensors} == {4, 8, 32}
    assert {group.scales for group in fused.tensors if group.block} == {"float32"}


def test_experts_that_are_dense_throughout_need_the_library_all_the_same(tmp_path):
    config = tiny.deepseek_v3(first_k_dense_replace=3, q_lora_rank=64, v_head_dim=16)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    assert read_manifest(export(tmp_path, "int4", "native")).experts.plan == "native"


def test_without_the_library_the_plan_is_fused_and_says_so_once(tmp_path, monkeypatch):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    monkeypatch.setattr("moedge.export.options.find_library", lambda: None)
    bundle = export(tmp_path, "int4", None)
    assert read_manifest(bundle).experts.plan == "fused"
    [note] = [n for n in notes_of(bundle) if "fused" in n]
    assert "moedge's kernel library is missing: answers take" in note
    assert not [note for note in notes_of(export(tmp_path, "int4", "fused")) if "C++" in note]
    assert ExportOptions(parse_plan("fp32")).decided().plan_notes == ()


@needs_kernels
def test_with_the_library_the_plan_is_native():
    assert ExportOptions(parse_plan("int4")).decided().plan == "native"
    assert ExportOptions(parse_plan("fp32")).decided().plan == "if"
    with pytest.raises(MoedgeError, match=r"native experts are quantized ones: use --experts if with --scheme fp32"):
        ExportOptions(parse_plan("fp32"), "native").decided()


@pytest.mark.parametrize("before", [True, False], ids=["vanishes", "appears"])
def test_a_library_that_comes_or_goes_meanwhile_changes_nothing(before, tmp_path, monkeypatch):
    """There or not for the first who asks, and the other way round for all after."""
    if before and find_library() is None:
        pytest.skip("the library is not built")
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    answers = iter([find_library() if before else None])
    later = None if before else tmp_path / "damaged.so"
    monkeypatch.setattr("moedge.export.options.find_library", lambda: next(answers, later))
    bundle = export(tmp_path, "int4", None)
    plan = "native" if before else "fused"
    said = json.loads((bundle / "report.json").read_text())
    assert (read_manifest(bundle).experts.plan, said["experts"]) == (plan, plan)
    kinds = {node.op_type for node in onnx.load(bundle / "model.onnx", load_external_data=False).graph.node}
    assert ("Experts" in kinds, "QMoE" in kinds) == (before, not before)
    assert (bundle / "probe.onnx").exists() != before
    assert len([note for note in said["notes"] if "kernel library is missing" in note]) == (not before)


def test_a_library_that_cannot_be_used_ends_an_export_for_nobody_s_plan(tmp_path, monkeypatch, capsys):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    (tmp_path / library.NAME).write_bytes(b"garbage")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    capsys.readouterr()
    assert main(["export", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle"), "--scheme", "int4"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("moedge: moedge's kernels cannot be loaded (")
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(MoedgeError, match=r"kernels cannot be loaded .* with `moedge export --experts fused`\.$"):
        export(tmp_path, "int4", None)
    said = notes_of(export(tmp_path, "int4", "native", judge=True))
    assert [n for n in said if n.startswith("this machine cannot run the bundle, which is for another: moedge's kern")]
    assert [n for n in said if n.startswith("how far its answers are from the checkpoint's was not measured: moedge's")]


def test_a_bundle_is_not_loaded_without_the_library(tmp_path, monkeypatch):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4", "native")
    monkeypatch.setattr("moedge.runtime.kernels.library.find_library", lambda: None)
    with pytest.raises(MoedgeError, match=r"C\+\+ compiler.*`moedge export --experts fused`\.$"):
        Engine.load(bundle)


@needs_kernels
def test_a_load_opens_the_library_once(tmp_path, monkeypatch):
    tiny.save_checkpoint(WIDE, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "int4", "native")
    asked = []
    monkeypatch.setattr(library, "find_library", lambda: asked.append(1) or find_library())
    Engine.load(bundle)
    assert len(asked) == 1
