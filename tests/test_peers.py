"""The benchmark of peers beside the engines: what is made of its numbers, and where they are written."""

import importlib.util
import math

import numpy as np
import pytest
import tiny_models as tiny
from native import needs_kernels
from peers.engines import Job, Moedge
from peers.figures import EngineFacts, Figure, as_json, figures, judge, read_csv, write_csv
from peers.measuring import Amount, Samples, measure_shape
from peers.page import BEGIN, END, replace_region, summary, table, targets, together_table
from peers.preparing import Place, obstacle
from peers.process import PeerFailedError, PeerProcess
from peers.shapes import SHAPES
from peers.worker import random_tokens
from tiny_bundle import write_tiny_bundle

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest

Q4 = "llama.cpp:Q4_0"
NATIVE = "moedge:native"


@pytest.fixture
def samples():
    found = Samples()
    for ours, theirs in ((300.0, 100.0), (330.0, 100.0), (320.0, 160.0)):
        found.add(0, NATIVE, "prompt 512", ours)
        found.add(0, Q4, "prompt 512", theirs)
    for ours, theirs in ((100.0, 10.0), (310.0, 31.0)):
        found.add(2, NATIVE, "prompt 512", ours)
        found.add(2, "transformers:bf16", "prompt 512", theirs)
    return found


def test_ratios_are_of_rounds_in_turn_and_of_the_same_group(samples):
    by = {each.engine: each for each in figures("granite", samples)}
    assert (by[Q4].median, by[Q4].low, by[Q4].high, by[Q4].rounds) == (100, 100, 160, 3)
    assert (by[Q4].ratio, by[Q4].ratio_low, by[Q4].ratio_high) == (3.0, 2.0, 3.3)
    assert by["transformers:bf16"].ratio == 10
    assert (by[NATIVE].median, by[NATIVE].rounds, by[NATIVE].ratio) == (310, 5, 1)


def test_without_moedge_beside_it_an_engine_has_no_ratio():
    alone = Samples()
    alone.add(0, Q4, "decode at 0", 70.0)
    [figure] = figures("granite", alone)
    assert (figure.median, math.isnan(figure.ratio)) == (70, True)
    assert as_json([figure])[0]["ratio"] is None


def facts_of(shape, engine, kl, share=math.nan):
    return EngineFacts(shape, engine, 4.9, kl, 0.1, 0.9, 0.2, 0, 10**9, share, 2, "2026-11-26", "abc")


def test_targets_are_met_missed_or_not_measured(samples):
    facts = [facts_of("granite", Q4, 0.03), facts_of("granite", NATIVE, 0.02, 0.81)]
    verdicts = judge(SHAPES["granite"], [*figures("granite", samples), *figures("olmoe", samples)], facts)
    told = {each.what: each for each in verdicts}
    assert len(told) == len(verdicts)  # of one shape only
    prompt = told["prompt 512 against llama.cpp Q4_0"]
    assert (prompt.target, prompt.reached, prompt.words) == (3.5, 3.0, "missed")
    assert told["decode, share of the memory's bandwidth"].words == "met"
    assert told["decode at 4,096 against llama.cpp Q4_0"].words == "not measured"
    assert told["prompt 512 against transformers:bf16"].words == "met"
    wide = judge(SHAPES["moonlight"], figures("moonlight", samples), [facts_of("moonlight", NATIVE, 0.02, 0.81)])
    wide = {each.what: each for each in wide}
    assert wide["prompt 512 against llama.cpp Q4_0"].words == "met"
    assert wide["decode, share of the memory's bandwidth"].words == "missed"
    assert "latent: prompt 4,096 against prompt 512" in wide
    lines = targets(verdicts).splitlines()
    assert "| granite | prompt 512 against llama.cpp Q4_0 | 3.50 | 3.00 | missed |" in lines
    assert not any("not measured" in line for line in lines)
    nobody = judge(SHAPES["granite"], figures("granite", samples), [])
    assert {each.what: each for each in nobody}["decode, share of the memory's bandwidth"].words == "not measured"


def test_the_summary_has_a_row_a_shape(samples):
    samples.add(0, NATIVE, "decode at 512", 80.0)
    samples.add(0, Q4, "decode at 512", 64.0)
    facts = [
        facts_of("granite", NATIVE, 0.02),
        facts_of("granite", Q4, 0.034),
        facts_of("granite", "transformers:bf16", 0),
    ]
    head, _, row = summary(figures("granite", samples), facts).splitlines()
    assert row == (
        "| Granite-3.1-1B-A400M, 24 of 24 | 310 | 3.00 ×, – | 80 | 1.25 ×, – | – | transformers:bf16 10.00 ×, – "
        "| 0.020, 0.034, – |"
    )
    assert head.count("|") == row.count("|")


def test_a_shape_that_is_measured_again_replaces_its_own_rows_only(samples, tmp_path):
    path = tmp_path / "results" / "machine.csv"
    write_csv(path, Figure, [*figures("granite", samples), *figures("olmoe", samples)], ["granite", "olmoe"])
    samples.add(0, NATIVE, "decode at 0", 80.0)
    write_csv(path, Figure, figures("granite", samples), ["granite"])
    kept = read_csv(path, Figure)
    assert [each for each in kept if each.shape == "granite"] == figures("granite", samples)
    assert len([each for each in kept if each.shape == "olmoe"]) == 3


def test_the_table_has_moedge_first_and_ratios_beside_the_others(samples):
    facts = [facts_of("granite", Q4, 0.034), facts_of("granite", NATIVE, 0.02)]
    lines = table(figures("granite", samples), facts).splitlines()
    assert lines[2].startswith(
        "| Granite-3.1-1B-A400M, 24 of 24 | moedge:native | 4.90 | 0.020, 10.0% | – | 310 (100–330) |"
    )
    assert lines[3].startswith("|  | llama.cpp:Q4_0 | 4.90 | 0.034, 10.0% | – | 100 (3.00 ×, 2.00–3.30) |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_sessions_at_once_have_a_table_of_their_own(samples):
    assert together_table(figures("granite", samples)) == ""
    for count, rate in ((1, 80.0), (8, 170.0), (1, 84.0)):
        samples.add(0, NATIVE, f"{count} at once", rate)
    assert together_table(figures("granite", samples)).splitlines() == [
        "| moedge:native, Granite-3.1-1B-A400M: sessions at once | 1 | 8 |",
        "|---|---|---|",
        "| tokens/s of all | 82 (80–84) | 170 (170–170) |",
    ]


@needs_kernels
def test_moedge_runs_sessions_together_and_frees_their_places(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int8"), "native"))
    peer = Moedge(Job("granite", str(tmp_path / "bundle"), 1, 256))
    for count in (8, 8, 2):
        peer.begin_together([[5 + i, 6] for i in range(count)])
        peer.feed_together([7] * count)  # which takes sessions of one arena only
        assert [session.tokens for session in peer._company] == [[5 + i, 6, 7] for i in range(count)]


def test_only_the_marked_region_of_a_page_changes():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_region(page, "new\nlines") == f"before\n{BEGIN}\nnew\nlines\n{END}\nafter\n"
    for broken in ("nothing", page + page, f"{END}\n{BEGIN}"):
        with pytest.raises(ValueError, match="there must be one line"):
            replace_region(broken, "new")


@pytest.mark.parametrize("page", ["README.md", "docs/bench_figures.md"])
def test_pages_have_the_region(page, request):
    replace_region((request.config.rootpath / page).read_text(encoding="utf-8"), "")


def test_tokens_are_the_same_for_all_engines_and_new_in_each_order():
    assert random_tokens("granite", 50, 3) == random_tokens("granite", 50, 3)
    assert random_tokens("granite", 50, 3) != random_tokens("granite", 50, 4)
    assert min(random_tokens("granite", 5000, 0)) >= 2


def test_files_are_told_apart_by_weights_scheme_and_context(tmp_path):
    one = Place.of(tmp_path, SHAPES["olmoe"], 8704, "balanced")
    assert one.context == 4096  # what the model holds
    other = Place.of(tmp_path, SHAPES["olmoe"], 8704, "int4")
    assert one.folder == other.folder
    assert one.path(NATIVE) != other.path(NATIVE)
    assert one.path("genai:fused") == one.path("moedge:fused")
    assert one.path(Q4) == one.folder / "Q4_0.gguf"
    assert Place.of(tmp_path, SHAPES["granite"], 8704, "balanced").folder != one.folder


def test_what_an_engine_cannot_run_is_said():
    assert obstacle("genai:own", SHAPES["qwen3"])
    assert obstacle("genai:fused", SHAPES["moonlight"])
    assert "MXFP4" in obstacle("genai:own", SHAPES["gpt-oss"])
    assert obstacle("genai:own", SHAPES["lfm2"]) is None
    assert obstacle(Q4, SHAPES["lfm2"]) is None
    refused = {name for name, shape in SHAPES.items() if obstacle("llama.cpp:Q4_K_M", shape)}
    assert refused == {"moonlight", "gpt-oss"}


def test_an_engine_that_is_not_installed_is_left_out_loudly(request, monkeypatch, capsys):
    path = request.config.rootpath / "benchmarks" / "peers.py"
    spec = importlib.util.spec_from_file_location("peers_command", path)
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    there = {"gguf", "onnxruntime_genai"}
    monkeypatch.setattr(command, "find_spec", lambda name: name if name in there else None)
    assert command.installed([NATIVE, Q4, "genai:fused", "transformers:bf16"]) == [NATIVE, "genai:fused"]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"** {Q4} is LEFT OUT: llama_cpp is not installed here",
        "** transformers:bf16 is LEFT OUT: transformers, torch is not installed here",
    ]


def test_a_worker_that_fails_says_why_and_the_others_go_on(tmp_path, capfd):
    with pytest.raises(PeerFailedError, match="FileNotFoundError"):
        PeerProcess(NATIVE, Job("granite", str(tmp_path / "nothing"), 1, 64))
    samples = measure_shape(Place.of(tmp_path, SHAPES["granite"], 64, "balanced"), [NATIVE], Amount(), 1)
    assert "FileNotFoundError" in samples.failed[NATIVE]
    assert f"** granite: {NATIVE}: FileNotFoundError" in capfd.readouterr().err
    assert samples.rates == {}


def test_a_worker_answers_every_order(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "toy", context_length=256)
    vocabulary = read_manifest(bundle).model.vocab_size
    ids = np.arange(40) % vocabulary
    logits = Engine.load(bundle).score(ids.tolist())
    np.savez(tmp_path / "reference.npz", ids=ids, logits=logits)
    with PeerProcess(NATIVE, Job("granite", str(bundle), 1, 256)) as peer:
        assert peer.loaded["seconds"] > 0
        scored = peer.ask("score", reference=str(tmp_path / "reference.npz"))
        assert (scored["kl"] < 1e-6, scored["error"] < 1e-3, scored["top1"]) == (True, True, 1.0)
        assert peer.ask("memory")["anonymous"] > 0
        assert peer.ask("bandwidth")["bytes_per_s"] > 1e8
        with pytest.raises(
            PeerFailedError, match="outside the vocabulary"
        ):  # its vocabulary is a shape's, and not the toy's
            peer.ask("prompt", tokens=9, seed=0, marks=[4])
