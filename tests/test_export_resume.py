"""An export that is killed at any moment and resumed ends with the bytes of one that was not."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
from safetensors.numpy import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.shard import Shard
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan
from moedge.export.writing.journal import JOURNAL_NAME, UnfinishedError
from moedge.runtime.cli import main
from moedge.runtime.integrity import check_bundle
from moedge.runtime.manifest import read_manifest

INT4 = ExportOptions(parse_plan("int4"), "fused")
PLANS = {
    "native": ("int4", "native"),
    "fused": ("int4", "fused"),
    "if": ("int4-block32-zp", "if"),
    "fp32": ("fp32", "if"),
}
PLAIN = ("--scheme", "int4", "--experts", "fused", "--calibration", "none")
STAGES = ["embedding", "layer 0", "layer 1", "layer 2", "head"]

# Kills itself at the beginning of a stage, as soon as the journal has heard of all stages before it.
VICTIM = """
import os, pathlib, signal, sys, time
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan
folder, scheme, plan, fatal, finished = sys.argv[1:]
journal = pathlib.Path(folder, ".bundle.partial", "journal.jsonl")
def on_stage(stage):
    if stage == fatal:
        while journal.read_bytes().count(b"\\n") < 1 + int(finished):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
options = ExportOptions(parse_plan(scheme), plan, resume=True)
progress = ExportProgress(on_stage=on_stage)
export_bundle(pathlib.Path(folder, "checkpoint"), pathlib.Path(folder, "bundle"), options, progress)
"""


@pytest.fixture
def folder(tmp_path):
    config = tiny.deepseek_v3(hidden_size=128, q_lora_rank=64, moe_intermediate_size=64, v_head_dim=16)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0, shard="300KB")
    return tmp_path


def export(folder, options=INT4, name="bundle", on_stage=lambda _: None):
    return export_bundle(folder / "checkpoint", folder / name, options, ExportProgress(on_stage=on_stage))


def interrupt(folder, stage="layer 2", options=INT4, error=None):
    """An export whose disk fails at the beginning of a stage."""

    def on_stage(name):
        if name == stage:
            raise error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UnfinishedError, match=r"No space left on device.*--resume to go on\.$"):
        export(folder, options, on_stage=on_stage)


def assert_same(folder, one, other):
    """Two bundles, byte by byte, but for report.json, which tells the time, and its hash in the manifest."""
    names = [sorted(path.name for path in (folder / name).iterdir()) for name in (one, other)]
    assert names[0] == names[1]
    for name in set(names[0]) - {"report.json", "manifest.json"}:
        assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name
    manifests = [read_manifest(folder / name) for name in (one, other)]
    first, second = (replace(m, name="", files=m.files | {"report.json": None}) for m in manifests)
    assert first == second
    assert check_bundle(folder / other, lambda done, total: None) == []


@pytest.mark.parametrize("plan", PLANS)
def test_killed_at_every_stage_and_resumed(folder, plan):
    """One export, killed once at the beginning of each stage but the first, then resumed to its end."""
    scheme, experts = PLANS[plan]
    for finished, stage in enumerate([*STAGES[1:], "hashes"], 1):
        command = [sys.executable, "-c", VICTIM, str(folder), scheme, experts, stage, str(finished)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        lines = (folder / ".bundle.partial" / JOURNAL_NAME).read_text().splitlines()
        assert [json.loads(line)["stage"] for line in lines[1:]] == STAGES[:finished]
    options = ExportOptions(parse_plan(scheme), experts)
    export(folder, replace(options, resume=True))
    export(folder, options, "whole")
    assert json.loads((folder / "bundle" / "report.json").read_text())["resumed_after"] == "head"
    assert_same(folder, "whole", "bundle")
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "checkpoint", "whole"]


@pytest.mark.parametrize("plan", PLANS)
def test_nothing_finished_is_read_again(folder, plan, monkeypatch):
    """Of finished stages only small vectors are read, which stand in model.onnx; of the others everything is."""
    options = ExportOptions(parse_plan(PLANS[plan][0]), PLANS[plan][1])
    read, real = [], Shard.read
    monkeypatch.setattr(Shard, "read", lambda shard, name, *rows: read.append(name) or real(shard, name, *rows))
    export(folder, options, "whole")
    everything = set(read)
    read.clear()
    interrupt(folder, "layer 2", options)
    before = set(read)
    read.clear()
    export(folder, replace(options, resume=True))
    assert_same(folder, "whole", "bundle")
    again = before & set(read)
    assert before | set(read) == everything
    assert {name for name in read if name.startswith(("model.layers.2.", "lm_head"))}
    assert again
    assert all("norm" in name or name.endswith("e_score_correction_bias") for name in again), again


def test_a_full_disk_is_told_and_resumed(folder):
    """With files limited to 400 KiB some layers fit: one sentence, no bundle; with room again, the same bytes."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400 << 10, 400 << 10))\n"
        "from moedge.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["export", str(folder / "checkpoint"), "-o", str(folder / "bundle"), *PLAIN]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("moedge: the export stopped (File too large)")
    assert line.endswith("run it again with --resume to go on.")
    assert sorted(path.name for path in folder.iterdir()) == [".bundle.partial", "checkpoint"]
    assert main([*words, "--resume"]) == 0
    export(folder, INT4, "whole")
    assert_same(folder, "whole", "bundle")


def test_ctrl_c_tells_what_is_kept(folder, monkeypatch, capsys):
    real = Shard.read

    def read(shard, name, *rows):
        if name.startswith("model.layers.1."):
            raise KeyboardInterrupt
        return real(shard, name, *rows)

    words = ["export", str(folder / "checkpoint"), "-o", str(folder / "bundle"), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(Shard, "read", read)
        assert main(words) == 130
    assert "finished as far as layer 0" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_after"] == "layer 0"


def test_an_interrupted_export_is_not_thrown_away_unasked(folder):
    interrupt(folder)
    before = {path.name: path.read_bytes() for path in (folder / ".bundle.partial").iterdir()}
    with pytest.raises(UnfinishedError, match=r"finished as far as layer 1 .*--resume to go on, or with --force"):
        export(folder)
    assert {path.name: path.read_bytes() for path in (folder / ".bundle.partial").iterdir()} == before
    export(folder, replace(INT4, force=True))
    assert json.loads((folder / "bundle" / "report.json").read_text())["resumed_after"] is None
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "checkpoint"]


def test_resume_with_nothing_to_resume_begins_anew(folder):
    export(folder, replace(INT4, resume=True))
    export(folder, INT4, "whole")
    assert_same(folder, "whole", "bundle")


def refuse(folder, match, options=INT4):
    """--resume is refused with one sentence, what is there stays, and --force begins anew."""
    before = {path.name: path.read_bytes() for path in (folder / ".bundle.partial").iterdir()}
    with pytest.raises(UnfinishedError, match=match) as caught:
        export(folder, replace(options, resume=True))
    assert str(caught.value).endswith("leave out --resume and say --force to begin anew.")
    assert {path.name: path.read_bytes() for path in (folder / ".bundle.partial").iterdir()} == before
    export(folder, replace(options, force=True))
    assert check_bundle(folder / "bundle", lambda done, total: None) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (ExportOptions(parse_plan("int8"), "fused"), "begun with --scheme int4-block64, and this is int8-block32"),
        (
            ExportOptions(parse_plan("int4", ["attention=int8"]), "fused"),
            "begun with --scheme int4-block64, and this is int4-block64, attention=int8-block32",
        ),
        (
            ExportOptions(parse_plan("int4"), "fused", scale_dtype="float32"),
            "begun with scales of each scheme's own type, and this is float32",
        ),
        (ExportOptions(parse_plan("int4"), "if"), "begun with --experts fused, and this is if"),
        (ExportOptions(parse_plan("int4"), "fused", context=77), "begun with --context 512, and this is 77"),
    ],
)
def test_other_options_are_refused(folder, options, match):
    interrupt(folder)
    refuse(folder, match, options)


def test_another_version_is_refused(folder, monkeypatch):
    interrupt(folder)
    monkeypatch.setattr("moedge.export.bundle.version", lambda name: f"9.9 of {name}")
    refuse(folder, "begun with moedge .*, and this is 9.9 of moedge")


@pytest.mark.parametrize("change", ["weights", "config", "time"])
def test_a_changed_checkpoint_is_refused(folder, change):
    interrupt(folder)
    shard = sorted((folder / "checkpoint").glob("*.safetensors"))[0]
    if change == "weights":
        tensors = load_file(shard)
        name = sorted(tensors)[0]
        save_file(tensors | {name: tensors[name] + np.float32(1)}, shard)
    elif change == "time":
        os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 1))
    else:
        config = json.loads((folder / "checkpoint" / "config.json").read_text())
        (folder / "checkpoint" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    refuse(folder, "the checkpoint has changed since")


@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_altered_weights_are_refused(folder, harm):
    interrupt(folder)
    path = folder / ".bundle.partial" / "weights.bin"
    if harm == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif harm == "flip":
        data = bytearray(path.read_bytes())
        data[100_000] ^= 1
        path.write_bytes(data)
    else:
        os.truncate(path, 0)
    refuse(folder, r"weights\.bin is not what the interrupted export has written")


def test_a_torn_last_line_does_not_count_and_a_broken_one_is_refused(folder):
    interrupt(folder)
    journal = folder / ".bundle.partial" / JOURNAL_NAME
    with journal.open("a") as file:
        file.write('{"stage": "layer 2", "end": 99')
    interrupt(folder, "head", replace(INT4, resume=True))
    lines = journal.read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines[1:]] == STAGES[:-1]
    journal.write_text(journal.read_text().replace('"end"', '"ende"'))
    refuse(folder, r"journal\.jsonl is broken")


def test_a_mistake_in_the_checkpoint_leaves_nothing(folder):
    shard = next(s for s in sorted((folder / "checkpoint").glob("*.safetensors")) if "lm_head.weight" in load_file(s))
    tensors = load_file(shard)
    tensors["lm_head.weight"][3, 3] = np.nan
    save_file(tensors, shard)
    with pytest.raises(MoedgeError, match="NaN"):
        export(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint"]
