"""The verb `profile` from beginning to end, over layers of a few kilobytes. No test is about speed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from native import needs_kernels

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import load_profile
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime.cli import main
from moedge.runtime.profiling import (
    attention_rates,
    course,
    layer_rates,
    native_stages,
    probe_graphs,
    profiling,
    stock_rates,
    storage_rates,
)
from moedge.runtime.profiling.drawn_weights import Drawing
from moedge.runtime.profiling.expert_usage import measure_usage
from moedge.runtime.profiling.layer_rates import solve, step_bytes
from moedge.runtime.profiling.model_rates import open_model, question_for
from moedge.runtime.profiling.operator_times import sum_up
from moedge.runtime.profiling.probe_graphs import LayerShape
from moedge.runtime.profiling.storage_rates import measure_storage
from moedge.runtime.profiling.timing import Measured

SMALL = LayerShape(hidden=128, inter=64, experts=8, top_k=2, heads=4, kv_heads=2, dim=32)


@pytest.fixture
def small(monkeypatch):
    """Everything is a few kilobytes, and is measured for no longer than it has to be."""
    for module in (native_stages, profiling, stock_rates):
        monkeypatch.setattr(module, "LayerShape", lambda: SMALL)
    for module in (native_stages, course, profiling):
        monkeypatch.setattr(module, "last_cache_bytes", lambda: 1 << 16)
    monkeypatch.setattr(native_stages, "weights_memory", lambda: 1 << 20)
    monkeypatch.setattr(profiling, "weights_memory", lambda: 1 << 20)
    monkeypatch.setattr(native_stages, "LEAST_BYTES", 1 << 19)
    monkeypatch.setattr(native_stages, "THIN_LAYERS", 4)
    monkeypatch.setattr(profiling, "choose_buffer", lambda free, caches: 1 << 20)
    monkeypatch.setattr(attention_rates, "DEPTH", 256)
    monkeypatch.setattr(attention_rates, "PROMPT_DEPTH", 64)
    monkeypatch.setattr(layer_rates, "VOCABULARY", 1000)
    monkeypatch.setattr(probe_graphs, "POSITIONS", 2048)
    monkeypatch.setattr(storage_rates, "LEAST_BYTES", 4 << 20)
    monkeypatch.setattr(storage_rates, "MOST_BYTES", 8 << 20)
    monkeypatch.setattr(course.Course, "seconds", lambda self, quick, full: 0.01)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiling")
    tiny.save_checkpoint(tiny.qwen3_moe(), folder / "checkpoint", 0)
    options = ExportOptions(parse_plan("int4"), experts="native", context=256)
    export_bundle(folder / "checkpoint", folder / "bundle", options)
    return folder / "bundle"


@needs_kernels
def test_the_machine_alone(small, tmp_path, capsys):
    path = tmp_path / "out" / "here.toml"
    assert main(["profile", "--quick", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"--device {path}" in said
    assert sorted(each.name for each in path.parent.iterdir()) == ["here.html", "here.json", "here.toml"]
    loaded = load_profile(str(path))
    assert "measured by moedge profile" in loaded.sources["weights_bytes_per_s"]
    assert loaded.sources["fused_weights_bytes_per_s"].startswith("estimated"), "not with --quick"
    data = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert {trial["setting"] for trial in data["trials"]} == {
        "decode_threads",
        "prefill_threads",
        "affinity",
        "awake_us",
    }
    assert data["model"] is None
    assert [each["operator"] for each in data["stock"]["operators"]] == ["MatMulNBits"] * 2 + ["MatMul"] * 2


@needs_kernels
def test_a_model_too(small, bundle, tmp_path, capsys):
    path = tmp_path / "here.toml"
    assert main(["profile", str(bundle), "-o", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert data["model"]["expert_plan"] == "native"
    assert {each["operator"] for each in data["operators"]["operators"]} >= {"Experts", "Linear", "Attention"}
    layers = data["usage"]["counts"]
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["model"]
    assert {len(layer) for layer in layers} == {manifest["num_experts"]}
    tokens = data["usage"]["tokens"]
    assert {sum(layer) for layer in layers} == {tokens * manifest["num_experts_per_tok"]}
    assert "QMoE" in {each["operator"] for each in data["stock"]["operators"]}
    assert "Experts by layer" in path.with_suffix(".html").read_text(encoding="utf-8")


@needs_kernels
def test_what_is_interrupted_leaves_nothing(small, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage_rates, "_read_all", interrupt)
    assert main(["profile", "--quick", "-o", str(tmp_path / "here.toml")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_place_or_a_bundle_that_is_none_is_a_sentence(small, tmp_path, capsys):
    assert main(["profile", "-o", str(tmp_path / "here.yaml")]) == 1
    assert "ends in .toml" in capsys.readouterr().err
    assert main(["profile", str(tmp_path / "nothing"), "--quick", "-o", str(tmp_path / "here.toml")]) == 1
    assert "nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_kernels_the_rest_is_measured(small, tmp_path, monkeypatch, capsys):
    def missing():
        raise MoedgeError("moedge's kernels are not built.")

    monkeypatch.setattr(profiling, "open_library", missing)
    path = tmp_path / "here.toml"
    assert main(["profile", "--quick", "-o", str(path)]) == 0
    assert "moedge's own operators" in capsys.readouterr().out
    loaded = load_profile(str(path))
    assert loaded.sources["weights_bytes_per_s"].startswith("estimated")
    assert "measured" in loaded.sources["memory_bytes_per_s"]


@needs_kernels
def test_experts_are_counted_for_the_one_who_asks(bundle):
    profile = load_profile("auto")
    engine = open_model(bundle, profile)
    usage = measure_usage(engine, 20)
    assert sum(map(sum, usage.counts)) == len(usage.layers) * usage.tokens * engine.manifest.model.num_experts_per_tok
    assert all(0 < share <= 1 for share in usage.shares_used)
    assert question_for(engine, 0.0).prompts == (32,)
    assert question_for(engine, 1e6).steps >= 24


def test_two_kinds_of_layers_tell_rate_and_overhead_apart():
    class Layers:
        def __init__(self, shape, count):
            self.shape, self.count = shape, count

    shape = LayerShape()
    wide, thin = Layers(shape, 4), Layers(shape.thin, 32)
    rate, layer = 20e9, 60e-6
    slow, fast = (step_bytes(each) / rate + each.count * layer for each in (wide, thin))
    assert solve(wide, thin, slow, fast) == pytest.approx((rate, layer))
    assert solve(wide, thin, slow, step_bytes(thin) / rate / 2)[1] > 0, "noise makes no layer take less than nothing"


def test_times_are_summed_by_operator_and_run():
    def run(at, taken):
        return {"cat": "Session", "name": "model_run", "ts": at, "dur": taken}

    def node(kind, at, taken):
        return {"cat": "Node", "name": kind, "ts": at, "dur": taken, "args": {"op_name": kind}}

    events = [
        *(run(0, 900), node("Linear", 10, 800)),
        *(run(1000, 500), node("Linear", 1010, 300), node("Experts", 1400, 80)),
        *(run(2000, 90), node("Linear", 2000, 90)),  # a step that warms up
        *(run(3000, 100), node("Linear", 3000, 20), node("Experts", 3050, 40)),
        *(run(4000, 100), node("Linear", 4000, 30), node("Experts", 4050, 30)),
        {"cat": "Node", "name": "a fence", "ts": 4010, "dur": 5, "args": {}},
    ]
    found = {each.operator: each for each in sum_up(events, 2)}
    assert (found["Linear"].prompt_s, found["Linear"].token_s, found["Linear"].nodes) == pytest.approx((3e-4, 25e-6, 1))
    assert (found["Experts"].prompt_s, found["Experts"].token_s) == pytest.approx((8e-5, 35e-6))
    assert (found["between operators"].prompt_s, found["between operators"].token_s) == pytest.approx((12e-5, 4e-5))


def test_storage_leaves_no_file_and_says_when_it_is_not_measured(small, tmp_path, monkeypatch):
    found = measure_storage(tmp_path, Drawing(1), 0.05)
    assert list(tmp_path.iterdir()) == []
    assert found.points or found.note.startswith("not measured")
    monkeypatch.setattr(storage_rates, "storage_bytes", lambda: 7)
    assert measure_storage(tmp_path, Drawing(1), 0.02).note.endswith("its storage is kept there")
    monkeypatch.setattr(storage_rates.shutil, "disk_usage", lambda folder: replace_free(folder))
    assert "are free" in measure_storage(tmp_path, Drawing(1), 0.02).note


def replace_free(folder: Path):
    class Usage:
        free = 10 << 20

    return Usage


def test_a_figure_says_where_it_comes_from():
    measured = Measured.of([3.0, 1.0, 2.0])
    assert measured == Measured(2, 1, 3, 3)
    assert measured.source("2026-11-27", "of this") == "measured by moedge profile, 2026-11-27, 3 runs, 1 to 3: of this"
    assert "1 run:" in replace(measured, runs=1).source("2026-11-27", "x")
    assert np.isfinite(measured.median)
