"""`moedge bench`: what it asks, what it counts, and that nothing is left out in silence. No test is about speed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from native import needs_kernels
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import engine as engine_module
from moedge.runtime.bench import bandwidth, bench_rounds
from moedge.runtime.bench.asking import fit, parse_lengths
from moedge.runtime.bench.bench import count_steps
from moedge.runtime.bench.provenance import find_commit
from moedge.runtime.bench.spread import Spread, percentile
from moedge.runtime.cli import main
from moedge.runtime.manifest import CacheTensor, ExpertKernel, TensorGroup, read_manifest
from moedge.runtime.program import Program
from moedge.runtime.progress import step_lines
from moedge.runtime.token_bytes import TokenBytes, token_bytes

SHORT = ("-p", "8,16", "-n", "4", "-d", "0,8", "-r", "2")


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch):
    monkeypatch.setattr(bandwidth.measure_bandwidth, "__defaults__", (2,))
    monkeypatch.setattr(bandwidth, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(bench_rounds, "last_cache_bytes", lambda: 1 << 18)


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "toy")


def test_json_holds_every_figure_with_its_spread_and_where_it_comes_from(bundle, capsys):
    assert main(["bench", str(bundle), *SHORT, "-t", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["tokens"] for each in said["prompts"]] == [8, 16]
    assert [each["depth"] for each in said["decode"]] == [0, 8]
    for rate in (*said["prompts"], *said["decode"]):
        spread = rate["tokens_per_s"]
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    said_bytes = read_manifest(bundle).tensors[0].bytes  # the toy has one matrix, as if it were a tied embedding
    for step in said["decode"]:
        assert 0 < step["p50_ms"] <= step["p95_ms"] <= step["p99_ms"]
        assert step["must_read"]["head"] == said_bytes
        assert step["share"] > 0
    first = said["first_token"]
    assert (first["prompt"], first["cached_tokens"]) == (8, 0)
    assert first["cold"] > said["load"]["first"] > 0
    assert min(said["load"]["imports"], said["load"]["hashes"], said["load"]["again"]) > 0
    assert (said["bandwidth"]["threads"], said["bandwidth"]["buffer_bytes"]) == (1, 1 << 20)
    assert said["energy"] == "not measured"
    told = said["provenance"]
    assert told["profile"]["prefill_threads"] == told["profile"]["decode_threads"] == 1
    assert told["profile"]["sources"]["decode_threads"] == "-t"
    assert (told["bundle"]["scheme"], told["bundle"]["plan"]) == ("fp32", "if")
    assert len(told["bundle"]["manifest_sha256"]) == 64
    assert told["machine"]["isa"] is not None
    assert {"moedge", "onnxruntime", "numpy", "python"} <= set(told["versions"])


@needs_kernels
def test_sessions_at_once_are_counted_together(tmp_path, capsys, monkeypatch):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    options = ExportOptions(parse_plan("int8"), "native")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    asked = ["bench", str(tmp_path / "bundle"), *SHORT, "--batch", "3,1"]
    assert main([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["question"]["batches"] == [1, 3]
    assert [(each["sessions"], each["depth"]) for each in said["batches"]] == [(1, 8), (3, 8)]
    for each in said["batches"]:
        assert 0 < each["p50_ms"] <= each["p95_ms"] <= each["p99_ms"]
        spread = each["tokens_per_s"]
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        # a step's time has a token of each session; the slowest round's mean is half of the median at least
        assert 1e3 * each["sessions"] / each["p99_ms"] <= spread["high"]
        assert spread["low"] <= 2e3 * each["sessions"] / each["p50_ms"]
    assert main(asked) == 0
    assert "Sessions at once, each at depth 8" in capsys.readouterr().out
    monkeypatch.setattr(engine_module, "detect_memory", lambda: Memory(100_000_000, 100_000_000))
    assert main(["bench", str(tmp_path / "bundle"), *SHORT, "--batch", "8"]) == 1
    assert "ask for fewer than 8 at once (`--batch`)" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_the_table_shows_the_same_for_people(tmp_path, capsys, layout):
    bundle = write_tiny_bundle(tmp_path / "toy", layout=layout)
    assert main(["bench", str(bundle), "-p", "8,99", "-n", "4", "-d", "0,8,4096", "-r", "1"]) == 0
    out = capsys.readouterr().out
    for words in (
        "prompt of 8",
        "decode 4 at depth 60",
        "p99 ms",
        "GB/s with",
        "threads over 1.00 MiB",
        "first token of 8",
        "energy",
    ):
        assert words in out
    assert "depth 4096 and 4 tokens exceed the bundle's context of 64, so it is 60" in out
    assert "a prompt of 99 exceeds the bundle's context of 64" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-p", "128,x"], "-p 128,x: 'x' is no whole number: write lengths like -p 128,512."),
        (["-p", "0"], "-p 0 is too small: give 1 or more."),
        (["-d", "-1"], "-d -1 is too small: give 0 or more."),
        (["-n", "0"], "-n 0 is too small: give 1 or more."),
        (["-r", "0"], "-r 0 is too small: give 1 or more."),
        (["-t", "0"], "-t 0 is too small: give 1 or more."),
        (
            ["--batch", "2"],
            "--batch 2: toy is a bundle of the if plan, which runs one session at a time: export it with "
            "`--experts native`.",
        ),
        (["-n", "64"], "-n 64 does not fit the bundle's context of 64 tokens: give a smaller number."),
        (["-p", "65", "-n", "1"], "no prompt of -p fits the bundle's context of 64 tokens: give a shorter one."),
    ],
)
def test_a_wrong_option_is_one_sentence(bundle, capsys, words, sentence):
    assert main(["bench", str(bundle), *words]) == 1
    assert capsys.readouterr().err == f"moedge: {sentence}\n"


def test_a_folder_that_is_no_bundle_is_one_sentence(tmp_path, capsys):
    assert main(["bench", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def damage(path):
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 8]) + whole[1:])


@pytest.fixture
def exported(tmp_path):
    """A bundle with weights in a file of their own."""
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4"), "fused"))
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_what_is_damaged_is_told_as_by_run_and_parsed_by_nobody(bundle, capsys, monkeypatch, name):
    damage(bundle / name)
    monkeypatch.setattr(Program, "load", lambda *_: pytest.fail("it was parsed"))
    assert main(["run", str(bundle), "hello", "--raw"]) == 1
    told = capsys.readouterr()
    assert f"'{name}' is not as it was written" in told.err
    assert main(["bench", str(bundle), *SHORT]) == 1
    assert capsys.readouterr() == told


@pytest.mark.parametrize("step", ["load", "run"])
def test_damaged_weights_explain_what_goes_wrong(exported, capsys, monkeypatch, step):
    def fail(*_):
        raise MoedgeError("onnxruntime cannot do it.")

    monkeypatch.setattr(Program, step, fail)
    assert main(["bench", str(exported), *SHORT, "--allow-slow"]) == 1
    assert "onnxruntime cannot do it" in capsys.readouterr().err
    damage(exported / "weights.bin")
    assert main(["bench", str(exported), *SHORT, "--allow-slow"]) == 1
    assert "'weights.bin' is not as it was written" in capsys.readouterr().err


def test_a_slow_kernel_may_be_measured_too(bundle, capsys, monkeypatch):
    def prove(*_, allow_slow):
        if not allow_slow:
            raise MoedgeError("pass --allow-slow.")

    monkeypatch.setattr("moedge.runtime.engine.prove_fast_kernel", prove)
    assert main(["bench", str(bundle), *SHORT]) == 1
    assert "--allow-slow" in capsys.readouterr().err
    assert main(["bench", str(bundle), *SHORT, "--allow-slow", "--json"]) == 0


def test_how_busy_the_machine_was_is_read_before_any_load(bundle, capsys, monkeypatch):
    calls, load = [], Program.load
    monkeypatch.setattr(Program, "load", lambda *given: (calls.append("load"), load(*given))[1])
    monkeypatch.setattr("psutil.getloadavg", lambda: (len(calls), 0, 0))
    assert main(["bench", str(bundle), *SHORT, "--json"]) == 0
    assert len(calls) == 2
    assert json.loads(capsys.readouterr().out)["provenance"]["load"] == 0


def test_bytes_from_storage_are_the_median_of_rounds(bundle, capsys, monkeypatch):
    """Of two reads a round, before and after its steps; the first round warms up, and one swaps."""
    read = iter([0, 0, *np.cumsum([0, 400, 0, 8, 0, 4000, 0, 12]).tolist()])
    monkeypatch.setattr(bench_rounds, "storage_bytes", lambda: next(read))
    assert main(["bench", str(bundle), "-p", "8", "-n", "4", "-d", "0", "-r", "3", "--json"]) == 0
    [step] = json.loads(capsys.readouterr().out)["decode"]
    assert step["storage_bytes_per_token"] == 3


def test_lengths_come_once_each_and_sorted():
    assert parse_lengths("-p", "512,128, 512", 1) == (128, 512)
    question = fit((8,), 10, (0, 90, 95, 4096), 5, context=100)
    assert question.depths == (0, 90)
    assert len(question.left_out) == 2
    with pytest.raises(MoedgeError, match="-n 100 does not fit"):
        fit((8,), 100, (0,), 5, context=100)


def test_every_step_is_told_of(bundle, capsys, monkeypatch):
    monkeypatch.setattr("moedge.runtime.progress.LINE_SECONDS", 0.0)
    assert main(["bench", str(bundle), *SHORT]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: ")]
    total = count_steps(fit((8, 16), 4, (0, 8), 2, context=64))
    assert lines[-1] == f"bench: {total} of {total}, bandwidth"
    assert len(lines) == total


def test_the_log_is_not_flooded(capsys):
    show = step_lines("bench", 3, iter([0.0, 5.0, 11.0, 11.0, 12.0]).__next__)
    for now in ("a", "b", "c"):
        show(now)
    assert capsys.readouterr().err == "bench: 2 of 3, b\n"


def test_spreads_and_percentiles():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2, 1, 3)
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0, 0.0)] == [50, 95, 99, 100, 1]
    assert percentile([7.0], 0.99) == 7


GROUPS = (
    TensorGroup("routed experts", "int4", 4, 32, 64_000, 40_000),
    TensorGroup("attention", "int8", 8, 32, 1000, 1100),
    TensorGroup("norms", "fp32", 32, 0, 10, 40),
    TensorGroup("embedding", "int8", 8, 32, 20_000, 22_000),
    TensorGroup("rotary tables", "fp32", 32, 0, 0, 999),
)
HEAD = TensorGroup("lm_head", "int8", 8, 32, 20_000, 22_000)


def manifest_of(bundle, plan, *more):
    manifest = read_manifest(bundle)
    model = replace(manifest.model, num_experts=8, num_experts_per_tok=2, moe_layers=1, vocab_size=200)
    cache = (CacheTensor("past", "present", "rows", (16,)), CacheTensor("c", "d", "rows", (32,), window=2))
    kernel = ExpertKernel(plan, 4, 32, False)
    return replace(manifest, model=model, cache=cache, experts=kernel, tensors=(*GROUPS, *more))


def test_what_a_token_must_read(bundle):
    """A quarter of the experts, one row of the embedding; the head whole, and tied the embedding in its place."""
    tied = token_bytes(manifest_of(bundle, "native"), 0)
    assert tied == TokenBytes(experts=10_000, dense=1100 + 40 + 110, head=22_000, cache=0)
    untied = token_bytes(manifest_of(bundle, "native", HEAD), 6400)
    assert (untied.head, untied.cache, untied.total) == (22_000, 6400, 10_000 + 1250 + 22_000 + 6400)
    assert token_bytes(manifest_of(bundle, "if", HEAD), 0) is None


def test_the_fused_plan_reads_its_packed_form(bundle):
    packed = token_bytes(manifest_of(bundle, "fused"), 0)
    assert packed.experts == 64_000 * 6 // 8 // 4
    assert packed.head == 20_000 * 10 // 8
    assert packed.dense == 1000 * 10 // 8 + 40 + 110


def test_a_commit_is_told_only_of_a_checkout(tmp_path):
    assert find_commit(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert find_commit(tmp_path) is None
    assert find_commit(Path(__file__).parents[1]) != ""
