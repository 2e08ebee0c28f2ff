"""benchmarks/models_2026.py: what it counts of a few layers is what the whole model is planned to take."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from imagined_checkpoint import Drawing, write_imagined_checkpoint
from long_prompts import LAYERS, small
from models_2026 import LENGTHS, NEAR, measure, table
from scaled_layers import Kinds, scale
from shapes_2026 import FULL, LINEAR, MELLUM2, MODELS, NEMOTRON_NANO, QWEN36, SLIDING, Published

from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.families import read_model_config
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.plan import is_raised
from moedge.runtime.bundle_report import describe, description_lines
from moedge.runtime.manifest import read_manifest

SMALL = {
    "hidden_size": 128, "vocab_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "moe_intermediate_size": 64, "num_experts_per_tok": 2,
}  # fmt: skip
TINY = (
    Published(
        "qwen",
        QWEN36 | SMALL | {
            "num_experts": 8, "num_hidden_layers": 8, "layer_types": [LINEAR, LINEAR, LINEAR, FULL] * 2,
            "shared_expert_intermediate_size": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 32, "linear_value_head_dim": 32,
        },
        {"num_hidden_layers": 4, "layer_types": [LINEAR, FULL, LINEAR, LINEAR]},
        0.0,
    ),
    Published(
        "mellum",
        MELLUM2 | SMALL | {
            "num_experts": 8, "num_hidden_layers": 8, "intermediate_size": 64,
            "layer_types": [SLIDING, SLIDING, SLIDING, FULL] * 2,
        },
        {"num_hidden_layers": 4, "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
         "mlp_layer_types": ["sparse", "dense", "dense", "sparse"]},
        0.0,
    ),
    Published(
        "nemotron",
        NEMOTRON_NANO | SMALL | {
            "n_routed_experts": 8, "hybrid_override_pattern": "MEM*EMEM*EME", "num_hidden_layers": 12,
            "moe_shared_expert_intermediate_size": 128, "mamba_num_heads": 4, "mamba_head_dim": 64, "n_groups": 2,
            "ssm_state_size": 32,
        },
        {"num_hidden_layers": 5, "hybrid_override_pattern": "ME*EM"},
        0.0,
    ),
)  # fmt: skip


@pytest.mark.parametrize("published", TINY, ids=lambda published: published.name)
def test_a_few_layers_tell_what_all_take(published: Published, tmp_path: Path) -> None:
    row = measure(1, published, tmp_path / "work")
    row = replace(row, published_parameters=row.total_parameters)
    assert row.farthest() < 0.001
    assert row.cache_bytes_32768 > row.cache_bytes_4096 > 4 * row.state_bytes
    assert (row.state_bytes > 0) == (published.name != "mellum")
    assert replace(row, cache_bytes_4096=row.cache_bytes_4096 * 11 // 10).farthest() > NEAR
    assert replace(row, published_parameters=row.total_parameters * 11 // 10).farthest() > NEAR
    assert table([row]).splitlines()[2].startswith(f"| 1 | {published.name} |")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("published", MODELS, ids=lambda published: published.name)
def test_the_few_layers_are_of_every_kind(published: Published) -> None:
    short, whole = (Kinds(read_model_config(Config(c, "config"))) for c in (published.short(), published.config))
    assert {whole.rest(layer) for layer in whole.layers()} <= {short.rest(layer) for layer in short.layers()}
    mixing = [{kinds.cache(layer) for layer in kinds.layers() if kinds.model.mixers[layer]} for kinds in (short, whole)]
    assert mixing[1] <= mixing[0]
    assert short.model.num_hidden_layers <= 5
    if published.config.get("quantization_config") is None:
        assert {is_raised(layer) for layer in short.model.moe_layers} == {True, False}


def test_a_cut_without_a_kind_of_layer_ends_it(tmp_path: Path) -> None:
    lacking = replace(TINY[0], cut={"num_hidden_layers": 3, "layer_types": [LINEAR] * 3})
    bundle = tmp_path / "bundle"
    write_imagined_checkpoint(tmp_path / "checkpoint", lacking.short())
    export_bundle(tmp_path / "checkpoint", bundle, ExportOptions(parse_plan("balanced"), "native", 64))
    manifest = read_manifest(bundle)
    with pytest.raises(SystemExit, match="no layer of the cut is like"):
        scale(bundle, describe(manifest), lacking, LENGTHS)


def test_inspect_tells_of_states(tmp_path: Path) -> None:
    write_imagined_checkpoint(tmp_path / "checkpoint", TINY[0].short())
    options = ExportOptions(parse_plan("balanced"), "native", 4096)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    manifest = read_manifest(tmp_path / "bundle")
    told = describe(manifest)
    assert told["state_bytes"] == 3 * 4 * (4 * 32 * 32 + 3 * (2 * 2 * 32 + 4 * 32))
    assert told["cache_bytes"] == {"4096": told["full_cache_bytes"]}
    assert 4.4 < told["bits_per_weight"] < 32
    lines = "\n".join(description_lines(manifest))
    assert "of recurrent layers at any length; a session keeps up to 18" in lines


@pytest.mark.parametrize("name", LAYERS)
def test_long_prompts_are_measured_with_real_mixers(name: str) -> None:
    published = next(model for model in MODELS if model.name == name)
    short, whole = (read_model_config(Config(c, "config")) for c in (small(published), published.config))
    assert {*short.mixers} == {*whole.mixers}
    assert short.experts.num_experts == 8


def test_weights_are_normal_and_norms_near_one(tmp_path: Path) -> None:
    write_imagined_checkpoint(tmp_path / "checkpoint", TINY[1].short())
    source = Checkpoint(tmp_path / "checkpoint")
    experts = np.stack([source.read_float(f"model.layers.0.mlp.experts.{i}.up_proj.weight", 0, 64) for i in range(8)])
    assert abs(experts.mean()) < 1e-3
    assert experts.std() == pytest.approx(0.02, rel=0.02)
    assert 0.9 < (np.abs(experts) < 0.04).mean() < 0.97
    assert source.read_parameter("model.norm.weight", 128).mean() == pytest.approx(1, abs=0.01)
    router = source.read_float("model.layers.0.mlp.gate.weight", 0, 8)
    assert router.std() == pytest.approx(128**-0.5, rel=0.1)
    assert len({chunk.tobytes() for chunk in (*Drawing(1).normal(64, 1.0), *Drawing(2).normal(64, 1.0))}) == 2
