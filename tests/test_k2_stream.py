"""The benchmark of Kimi K2's size, run small: its checkpoint is a valid one, and one command measures everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from k2_checkpoint import K2Shape, checkpoint_bytes, write_k2_checkpoint
from safetensors import safe_open

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "k2_stream.py"


def test_the_checkpoint_is_in_shards_that_the_library_reads(tmp_path):
    write_k2_checkpoint(tmp_path / "checkpoint", K2Shape.tiny(), shard_bytes=100_000)
    index = json.loads((tmp_path / "checkpoint" / "model.safetensors.index.json").read_text())["weight_map"]
    total, seen = 0, {}
    for path in sorted((tmp_path / "checkpoint").glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118  (not a dict)
                seen[name] = path.name
                tensor = shard.get_tensor(name)
                total += tensor.nbytes
                if name == "model.layers.1.mlp.experts.5.down_proj.weight_shape":
                    assert tensor.tolist() == [128, 64]
                assert tensor.float().isfinite().all()
    assert seen == index
    assert len(set(index.values())) > 3
    assert total == checkpoint_bytes(K2Shape.tiny())


def test_real_shapes_are_those_of_kimi_k2():
    assert checkpoint_bytes(K2Shape()) == pytest.approx(15.5e9, rel=0.001)


def test_its_experts_are_copied_as_published(tmp_path):
    write_k2_checkpoint(tmp_path / "checkpoint", K2Shape.tiny())
    manifest = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
    [routed] = [group for group in manifest.tensors if group.name == "routed experts"]
    assert routed.scheme == "int4-block32 (published)"
    assert routed.parameters == 8 * 3 * 128 * 64


def test_one_command_measures_everything(tmp_path):
    command = [sys.executable, str(BENCHMARK), "--tiny", "--rounds", "1", "--folder", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["ratio"] == pytest.approx(result["export_bytes_per_s"] / result["copy_bytes_per_s"])
    assert result["whole_model_hours"] == pytest.approx(594e9 / result["export_bytes_per_s"] / 3600)
    assert 0 < result["peak_bytes_above_interpreter"] < 1 << 30
    [run] = result["rounds"]
    assert 0 < sum(run["stages_s"].values()) <= run["export_s"]
    assert {"layer 0", "layer 1", "head"} < set(run["stages_s"])
    assert {"commit", "versions", "cpu", "cores"} < set(result["provenance"])
    assert list(tmp_path.iterdir()) == []
