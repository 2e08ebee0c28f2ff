"""Targets on tiny models: a trial measures what a bundle shows, and the plan that follows fits."""

import errno
import json
import os
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from safetensors.numpy import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export import bundle
from moedge.export.bundle import export_bundle
from moedge.export.calibration.beside_export import BesideExport
from moedge.export.calibration.texts import CalibrationText
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.rehearsal import rehearse, weigh
from moedge.export.schemes import parse_plan
from moedge.export.sensitivity import planning
from moedge.export.sensitivity.planning import Planner
from moedge.export.sensitivity.sensitivity import try_parts
from moedge.export.streaming.stage import StageMaker
from moedge.export.targets import TargetKl, TargetSize, plan_cheapest
from moedge.export.understanding import understand
from moedge.export.writing.journal import UnfinishedError
from moedge.quant.fidelity import diverge
from moedge.quant.plan import SchemePlan
from moedge.quant.scheme import FP32
from moedge.quant.search import SEARCHED
from moedge.runtime import Engine
from moedge.runtime.manifest import ATTENTION, EMBEDDING, LM_HEAD, ROUTED_EXPERTS

WORDS = CalibrationText("words", tuple(f"passage {i}: {'abcdefgh'[i % 8] * (i % 23)} {i * 7919}" for i in range(300)))
WINDOWS = np.random.default_rng(0).integers(2, 211, (2, 40))


@pytest.fixture
def checkpoint(tmp_path):
    """A model whose experts say next to nothing, but for those of layer 1."""
    tiny.save_checkpoint(tiny_families.quantizable("mixtral"), tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint/model.safetensors"
    tensors = load_file(path)
    writers = [name for name in tensors if "experts" in name and "w2" in name and ".layers.1." not in name]
    assert len(writers) == 2 * 8
    for name in writers:
        tensors[name] = tensors[name] / 30
    save_file(tensors, path, {"format": "pt"})
    return tmp_path / "checkpoint"


def options(target, changes=(), **others):
    usual = {"calibration": WORDS, "experts": "fused"}
    return ExportOptions(plan_cheapest(target, changes), target=target, **(usual | others)).decided()


def planner_of(source, opts):
    understood = understand(source, opts)
    rehearsal = rehearse(source, understood.model, understood.context, opts.scheme, opts.plan, opts.scale_dtype)
    model = with_stored_head(source, understood.model, [])
    return Planner(source, model, understood.context, understood.talking, opts, rehearsal)


def report_of(bundle):
    return json.loads((bundle / "report.json").read_text())


def size_of(bundle):
    return (bundle / "weights.bin").stat().st_size


@pytest.mark.parametrize("tied", [False, True])
def test_what_a_trial_measures_is_what_a_bundle_shows(tmp_path, tied):
    """Each part alone in its first rung: the KL of the exact plan's bundle that has just this rounded."""
    config = tiny_families.quantizable("qwen2_moe", tie_word_embeddings=tied)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    with Checkpoint(tmp_path / "checkpoint") as source:
        planner = planner_of(source, options(TargetSize(10**9)))
        parts = planner.parts
        maker = StageMaker(source.aside(), planner.model, WINDOWS.shape[1], tmp_path)
        found = try_parts(maker, WINDOWS, parts, BesideExport(SEARCHED, nullcontext), lambda _: None)
    assert {place[0] for place in found} >= {EMBEDDING, ATTENTION, ROUTED_EXPERTS, "shared experts"}
    assert ((LM_HEAD, None) in found) is not tied
    export_bundle(tmp_path / "checkpoint", tmp_path / "exact", ExportOptions(parse_plan("fp32")))
    exact = Engine.load(tmp_path / "exact")
    for part in parts:
        if part.place[1] in (0, 1):
            continue
        plan = SchemePlan("one", FP32, by_place={part.place: part.rungs[0]})
        export_bundle(tmp_path / "checkpoint", tmp_path / "one", ExportOptions(plan, "if", force=True))
        engine, kls = Engine.load(tmp_path / "one"), []
        for ids in WINDOWS:
            logits = [one.score(ids.tolist())[16:] for one in (exact, engine)]
            kls.append(diverge(*logits, np.zeros(len(logits[0]), np.int64)).kl)
        assert found[part.place].kl == pytest.approx(np.mean(kls), rel=0.01), part.place


@pytest.mark.parametrize("experts", ["native", "fused", "if"])
def test_the_layer_that_matters_gets_the_bits(checkpoint, tmp_path, experts):
    least = options(TargetSize(1), experts=experts)
    with Checkpoint(checkpoint) as source:
        planner = planner_of(source, least)
        nbytes = weigh(source, planner.model, planner.context, least.scheme, experts) + 80_000
    export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(nbytes), experts=experts))
    assert nbytes - 10_000 < size_of(tmp_path / "bundle") <= nbytes
    told = report_of(tmp_path / "bundle")["target"]
    assert told["asked"] == f"target-size {nbytes}"
    assert told["predicted_kl"] > 0
    layers = {layers: scheme for scheme, layers in told["plan"]["routed experts"].items()}
    assert layers.keys() == {"1", "0, 2"}, layers
    assert layers["0, 2"] == "int4-block32-zp"


def test_a_smaller_kl_takes_more_bytes_and_is_nearer(checkpoint, tmp_path):
    for kl in (0.02, 0.005):
        export_bundle(checkpoint, tmp_path / f"{kl}", options(TargetKl(kl), experts="if", judge=True))
        report = report_of(tmp_path / f"{kl}")
        assert report["fidelity"]["kl_mean"] <= kl, report
        assert not [note for note in report["notes"] if "target-kl" in note]
    assert size_of(tmp_path / "0.02") < size_of(tmp_path / "0.005")


def test_a_kl_that_is_out_of_reach_is_told(checkpoint, tmp_path):
    export_bundle(checkpoint, tmp_path / "bundle", options(TargetKl(1e-9), judge=True))
    report = report_of(tmp_path / "bundle")
    [told] = [note for note in report["notes"] if "target-kl" in note]
    assert told.startswith("--target-kl 1e-09 is missed by ")
    assert all(layers.keys() == {"int8-block32"} for layers in report["target"]["plan"].values())


def test_a_head_that_is_stored_though_it_is_tied_is_no_harm_to_later_plans(tmp_path, monkeypatch):
    config = tiny_families.quantizable("qwen3_moe", tie_word_embeddings=True)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint/model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}, path, {"format": "pt"})
    monkeypatch.setattr(bundle, "next_aim", lambda kl, rounds: kl / 100 if len(rounds) == 1 else None)
    seen = []
    progress = ExportProgress(on_stage=seen.append)
    given = options(TargetKl(0.5), judge=True, calibration=None)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", given, progress)
    assert seen.count("fidelity") > 1


def test_groups_that_are_fixed_are_not_chosen(checkpoint, tmp_path):
    fixed = options(TargetSize(700_000), ["attention=int8", "lm_head=int4"])
    export_bundle(checkpoint, tmp_path / "bundle", fixed)
    report = report_of(tmp_path / "bundle")
    assert report["target"]["plan"].keys() == {"embedding", "routed experts"}
    schemes = {(group["group"], group["scheme"]) for group in report["tensors"]}
    assert {("attention", "int8-block32"), ("lm_head", "int4-block64")} <= schemes
    assert report["scheme"] == "target-size 700000, attention=int8-block32, lm_head=int4-block64"


def test_the_ends_of_what_is_possible(checkpoint, tmp_path):
    with pytest.raises(MoedgeError, match=r"weights take (\d+) bytes \(0\.5 MB\) at the least: ask for that") as told:
        export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(1000)))
    least = int(str(told.value).split(" take ")[1].split()[0])
    with pytest.raises(MoedgeError, match="is too small"):
        export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(least - 1)))
    export_bundle(checkpoint, tmp_path / "least", options(TargetSize(least)))
    assert size_of(tmp_path / "least") == least
    export_bundle(checkpoint, tmp_path / "most", options(TargetSize(10**9)))
    report = report_of(tmp_path / "most")
    most = size_of(tmp_path / "most")
    assert f"--target-size 1000000000: every group has the most bits there are, in {most} bytes" in report["notes"]
    assert report["target"]["predicted_kl"] is None
    assert all(layers.keys() == {"int8-block32"} for layers in report["target"]["plan"].values())


def test_an_interrupted_export_goes_on_with_the_plan_it_has(checkpoint, tmp_path, monkeypatch):
    def stop(stage):
        if stage == "layer 2":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    size = options(TargetSize(600_000))
    export_bundle(checkpoint, tmp_path / "one", size)
    with pytest.raises(UnfinishedError, match="--resume"):
        export_bundle(checkpoint, tmp_path / "two", size, ExportProgress(on_stage=stop))
    monkeypatch.setattr(planning, "try_parts", lambda *_: pytest.fail("measured again"))
    with pytest.raises(UnfinishedError, match="begun with --scheme target-size 600000, and this is target-size 650000"):
        export_bundle(checkpoint, tmp_path / "two", options(TargetSize(650_000), resume=True))
    export_bundle(checkpoint, tmp_path / "two", replace(size, resume=True))
    assert (tmp_path / "one/weights.bin").read_bytes() == (tmp_path / "two/weights.bin").read_bytes()
    assert report_of(tmp_path / "one")["target"] == report_of(tmp_path / "two")["target"]


def test_what_is_thrown_away_is_gone_before_anything_is_measured(checkpoint, tmp_path, monkeypatch):
    def stop(stage):
        if stage == "layer 2":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def interrupt(maker, *_):
        assert [path for path in (tmp_path / ".two.partial").iterdir() if path.is_file()] == []
        raise KeyboardInterrupt

    size = options(TargetSize(600_000))
    with pytest.raises(UnfinishedError, match="--resume"):
        export_bundle(checkpoint, tmp_path / "two", size, ExportProgress(on_stage=stop))
    assert (tmp_path / ".two.partial/weights.bin").exists()
    monkeypatch.setattr(planning, "try_parts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, tmp_path / "two", replace(size, force=True))
    assert not (tmp_path / ".two.partial").exists()


def test_where_codes_take_too_much_to_load_there_are_four_bits_and_eight(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "MOST_JOINING_BYTES", 7_000)
    export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(700_000), calibration=None))
    schemes = {group["scheme"] for group in report_of(tmp_path / "bundle")["tensors"]}
    assert schemes == {"fp32", "int4-block32-zp", "int8-block32"}


def test_models_too_large_to_be_run_have_no_target(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "MOST_PARAMETERS", 1000)
    told = "takes hours: name a --scheme, or say --calibration mix to do it all the same"
    with pytest.raises(MoedgeError, match=told):
        export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(600_000), calibration_optional=True))
    with pytest.raises(MoedgeError, match=told):
        export_bundle(checkpoint, tmp_path / "bundle", options(TargetSize(600_000), calibration=None))


@pytest.mark.parametrize("plan", ["native", "fused", "if"])
@pytest.mark.parametrize("family", ["deepseek_v3", "lfm2_moe", "gpt_oss", "qwen2_moe", "phimoe"])
def test_the_size_is_known_to_the_byte(family, plan, tmp_path):
    tiny.save_checkpoint(tiny_families.MAKERS[family](), tmp_path / "checkpoint", 0)
    opts = ExportOptions(parse_plan("balanced"), plan).decided()
    with Checkpoint(tmp_path / "checkpoint") as source:
        planner = planner_of(source, opts)
        nbytes = weigh(source, planner.model, planner.context, planner.rehearsal.schemes, plan)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", opts)
    assert size_of(tmp_path / "bundle") == nbytes
