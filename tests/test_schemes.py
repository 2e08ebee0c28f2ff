"""Schemes by group of tensors: what the options mean, and bundles whose groups have what was asked for."""

import json

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny

from moedge.devices.errors import MoedgeError
from moedge.export import rehearsal
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import QUANTIZABLE, parse_plan
from moedge.quant.scheme import FP32, SCHEME_NAMES, parse_scheme
from moedge.runtime import Engine
from moedge.runtime.cli import main
from moedge.runtime.kernel_probe import run_probe
from moedge.runtime.manifest import EMBEDDING, LM_HEAD, read_manifest

IDS = np.random.default_rng(0).integers(2, 211, 60).tolist()
# every group has a scheme of its own, the groups of fp32 among them; deepseek_v3 has dense layers and shared experts
MIXED = (
    "embedding=fp32", "attention=int8-block64", "dense-mlp=int4-block32-zp", "shared-experts=fp32", "lm_head=int4",
)  # fmt: skip
DEEPSEEK = {"moe_intermediate_size": 64, "q_lora_rank": 64, "v_head_dim": 16, "kv_lora_rank": 64}


def export(folder, name, scheme, changes=(), experts="fused"):
    export_bundle(folder / "checkpoint", folder / name, ExportOptions(parse_plan(scheme, changes), experts))
    return folder / name


def schemes_of(bundle):
    """The schemes of each group's matrices, without those that are always fp32."""
    found = {}
    for group in read_manifest(bundle).tensors:
        found.setdefault(group.name, set()).add(group.scheme)
    return found


def notes_of(bundle):
    return json.loads((bundle / "report.json").read_text())["notes"]


@pytest.mark.parametrize("name", SCHEME_NAMES)
def test_four_bits_never_reach_the_table_or_the_head_unless_asked(name):
    plan, scheme = parse_plan(name), parse_scheme(name)
    least = parse_scheme("int8") if scheme.bits == 4 else scheme
    for group in QUANTIZABLE:
        assert plan.of(group).name == (least if group in (EMBEDDING, LM_HEAD) else scheme).name
    assert (plan.name, plan.quantized, plan.asked) == (scheme.name, scheme != FP32, frozenset())
    asked = parse_plan(name, ["embedding=int4", "lm_head=int4-block32"])
    assert [asked.of(group).name for group in (EMBEDDING, LM_HEAD)] == ["int4-block64", "int4-block32"]


def test_a_plan_is_named_by_what_it_changes():
    plan = parse_plan("int4", ["routed-experts=int4-block32-zp", "attention=int8"])
    assert plan.name == "int4-block64, attention=int8-block32, routed-experts=int4-block32-zp"
    assert plan.asked == {"attention", "routed experts"}
    assert plan == parse_plan("int4-block64", ["attention=int8-block32", "routed experts=int4-block32-zp"])
    assert parse_plan("int4", ["embedding=int8", "attention=int4"]) == parse_plan("int4")
    assert parse_plan("fp32", ["attention=int8"]).quantized


@pytest.mark.parametrize(
    ("scheme", "changes", "told"),
    [
        ("int7", [], r"no scheme is called 'int7' \(did you mean int8\?\); there are fast, .*zp\.$"),
        ("int4", ["attention=int7"], r"no scheme is called 'int7' \(did you mean int8\?\).*zp, mxfp4, nvfp4\.$"),
        (
            "int4",
            ["attenton=int8"],
            r"attenton=int8: .* 'attenton' \(did you mean attention\?\), but embedding, ",
        ),
        ("int4", ["router=int8"], r"a scheme reaches no group 'router'"),
        ("int4", ["attention"], r"--group attention has no scheme: write it like --group attention=int8\.$"),
        ("int4", ["attention=int8", "attention=int4"], r"--group attention is given twice"),
    ],
)
def test_what_is_not_known_is_told_in_a_sentence(scheme, changes, told):
    with pytest.raises(MoedgeError, match=told):
        parse_plan(scheme, changes)


def test_experts_in_fp32_have_no_fused_plan():
    assert ExportOptions(parse_plan("int4", ["routed-experts=fp32"])).decided().plan == "if"
    assert ExportOptions(parse_plan("fp32", ["routed-experts=int4"])).decided().plan != "if"
    with pytest.raises(MoedgeError, match="fused experts are quantized ones"):
        ExportOptions(parse_plan("int4", ["routed-experts=fp32"]), "fused").decided()


def test_every_group_gets_the_scheme_that_was_asked_for_it(tmp_path, monkeypatch):
    """And both plans say the same with them, to rounding, where every kernel keeps fp32 activations."""
    tiny.save_checkpoint(tiny_families.quantizable("deepseek_v3", **DEEPSEEK), tmp_path / "checkpoint", 0)
    exact, fused = (export(tmp_path, plan, "int4", MIXED, plan) for plan in ("if", "fused"))
    for bundle in (exact, fused):
        found = schemes_of(bundle)
        assert found[EMBEDDING] == found["shared experts"] == {"fp32"}
        assert found["attention"] == {"int8-block64", "fp32"}  # kv_b_proj is kept in fp32
        assert found["dense mlp"] == {"int4-block32-zp"}
        assert (found[LM_HEAD], found["routed experts"]) == ({"int4-block64"}, {"int4-block64"})
        assert read_manifest(bundle).scheme.startswith("int4-block64, attention=int8-block64, dense-mlp=int4")
        assert not [note for note in notes_of(bundle) if "--group" in note]
    logits = [engine.score(IDS) for engine in (Engine.load(exact), tiny.with_exact_kernels(fused, monkeypatch))]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4 * np.abs(logits[0]).max()


@pytest.mark.parametrize("experts", ["if", "fused"])
def test_a_tied_table_is_asked_for_as_the_embedding(tmp_path, experts):
    config = tiny_families.quantizable("mixtral", tie_word_embeddings=True)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    changes = ["embedding=fp32", "lm_head=int4", "convolution=int4", "shared-experts=int8"]
    bundle = export(tmp_path, "bundle", "int8", changes, experts)
    found = schemes_of(bundle)
    assert (found[EMBEDDING], found.get(LM_HEAD)) == ({"fp32"}, None)
    told = [note for note in notes_of(bundle) if "--group" in note]
    assert told == [
        "--group convolution: this model has no such matrices, so that nothing was changed",
        "--group lm_head: the head is the embedding, whose scheme it has, so that nothing was changed",
    ]  # int8 is what shared experts have anyway
    exact = Engine.load(export(tmp_path, "exact", "fp32", experts="if")).score(IDS)
    error = np.abs(Engine.load(bundle).score(IDS) - exact).max(axis=1) / np.abs(exact).max()
    assert np.median(error) < 0.03


def test_the_command_takes_groups(tmp_path, capsys):
    tiny.save_checkpoint(tiny_families.quantizable("mixtral"), tmp_path / "checkpoint", 0)
    words = ["export", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle"), "--json", "--scheme", "int4"]
    assert main([*words, "--group", "attention=int8", "--group", "embedding=int4-block32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scheme"] == "int4-block64, attention=int8-block32, embedding=int4-block32"
    found = schemes_of(tmp_path / "bundle")
    assert found["attention"] == {"int8-block32"}
    assert found[EMBEDDING] == {"int4-block32"}
    assert found[LM_HEAD] == {"int8-block32"}
    assert main([*words, "--group", "lmhead=int8"]) == 1
    assert "did you mean lm_head" in capsys.readouterr().err


def test_layers_that_are_raised_have_more_bits(tmp_path):
    """`balanced`: experts of the first two layers and of every third have 5 bits; both plans' kernels are proved."""
    config = tiny_families.quantizable("mixtral", num_hidden_layers=4)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "bundle", "balanced")
    assert schemes_of(bundle)["routed experts"] == {"int5-block32", "int4-block32-zp"}
    weights = {g.scheme: g.parameters for g in read_manifest(bundle).tensors if g.name == "routed experts"}
    assert weights["int5-block32"] == 3 * weights["int4-block32-zp"]  # layers 0, 1, 2 and 3
    assert run_probe(bundle / "probe.onnx").keys() == {"", "int4-block32-zp"}
    flat = export(tmp_path, "flat", "balanced", ["routed-experts=int4"])
    assert schemes_of(flat)["routed experts"] == {"int4-block64"}
    exact = Engine.load(export(tmp_path, "exact", "balanced", experts="if")).score(IDS)
    error = np.abs(Engine.load(bundle).score(IDS) - exact).max(axis=1) / np.abs(exact).max()
    assert np.median(error) < 0.03


def test_models_that_would_take_too_much_to_load_have_whole_bytes(tmp_path, monkeypatch):
    tiny.save_checkpoint(tiny_families.quantizable("mixtral"), tmp_path / "checkpoint", 0)
    monkeypatch.setattr(rehearsal, "MOST_JOINING_BYTES", 7_000)
    bundle = export(tmp_path, "bundle", "balanced")
    found = schemes_of(bundle)
    assert found["routed experts"] == {"int4-block32-zp"}
    assert found[EMBEDDING] == found[LM_HEAD] == {"int8-block64"}
    [note] = [note for note in notes_of(bundle) if "5 or 6 bits" in note]
    assert note.startswith("what balanced has in 5 or 6 bits is stored in 8, and no layer's experts have more than")
    assert sum(group.joining_bytes for group in read_manifest(bundle).tensors) == 0
