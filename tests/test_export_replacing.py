"""A bundle appears at once or not at all: what stands at the target, a full disk, two exports, kills at any moment."""

import random
import subprocess
import sys
import time

import pytest
import tiny_models as tiny
from test_export_failures import INT4, edit_tensors, refuse

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.writing.publish import publish
from moedge.runtime.integrity import check_bundle
from moedge.runtime.manifest import read_manifest


@pytest.fixture
def checkpoint(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


def test_existing_bundle_is_replaced_only_by_force(checkpoint):
    target = checkpoint.parent / "bundle"
    export_bundle(checkpoint, target, INT4)
    refuse(checkpoint, "--force")
    export_bundle(checkpoint, target, ExportOptions(parse_plan("int8"), force=True))
    assert read_manifest(target).scheme == "int8-block32"


@pytest.mark.parametrize("target", ["notes", "checkpoint", "file"])
def test_force_replaces_nothing_but_a_bundle(checkpoint, target):
    (checkpoint.parent / "notes").mkdir()
    (checkpoint.parent / "notes" / "diary.txt").write_text("dear diary")
    (checkpoint.parent / "file").write_text("")
    before = sorted(checkpoint.parent.rglob("*"))
    with pytest.raises(MoedgeError, match="is no bundle"):
        export_bundle(checkpoint, checkpoint.parent / target, ExportOptions(parse_plan("int4"), force=True))
    assert sorted(checkpoint.parent.rglob("*")) == before


def test_a_link_to_a_bundle_stays_a_link(checkpoint):
    real, link = checkpoint.parent / "real", checkpoint.parent / "link"
    export_bundle(checkpoint, real, INT4)
    link.symlink_to(real)
    export_bundle(checkpoint, link, ExportOptions(parse_plan("int8"), force=True))
    assert link.is_symlink()
    assert read_manifest(real).scheme == "int8-block32"
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["checkpoint", "link", "real"]


def test_failed_replacement_keeps_the_old_bundle(checkpoint):
    target = checkpoint.parent / "bundle"
    export_bundle(checkpoint, target, INT4)
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    edit_tensors(checkpoint, lambda t: t.pop("lm_head.weight"))
    refuse(checkpoint, "lm_head", ExportOptions(parse_plan("int8"), force=True))
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


def test_disk_full_leaves_nothing(checkpoint):
    """With files limited to 16 KiB not even a layer fits: exit code 1, one sentence, no bundle, no remains."""
    target = checkpoint.parent / "bundle"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))\n"
        "from moedge.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "export", str(checkpoint), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["checkpoint"]


def test_two_exports_to_one_target_do_not_mix(checkpoint):
    target = checkpoint.parent / "bundle"
    with publish(target), pytest.raises(MoedgeError, match="another export is writing"):
        export_bundle(checkpoint, target, INT4)


def test_killed_exports_leave_the_old_or_the_new_bundle(checkpoint):
    target = checkpoint.parent / "bundle"
    export_bundle(checkpoint, target, INT4)
    command = [sys.executable, "-m", "moedge.export", str(checkpoint), "-o", str(target), "--force", "--scheme", "int8"]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - begun
    rng = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * rng.uniform(0.5, 1.1))
        process.kill()
        process.wait()
        assert check_bundle(target, lambda done, total: None) == []
    export_bundle(checkpoint, target, ExportOptions(parse_plan("int4"), force=True))
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["bundle", "checkpoint"]
