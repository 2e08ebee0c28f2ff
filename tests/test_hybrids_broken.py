"""Broken checkpoints of families whose layers differ: each is refused in one sentence that says which tensor."""

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from published_tensors import LAYERS
from test_export_failures import edit_config, edit_tensors, refuse

from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

FP32 = ExportOptions(parse_plan("fp32"))
QWEN, NEMOTRON, GRANITE = "qwen3_5_moe_text", "nemotron_h", "granitemoehybrid"
NET, MAMBA = "model.layers.0.linear_attn", "backbone.layers.0.mixer"
GEMMA = "model.layers.1"


def without(name):
    return lambda tensors: tensors.pop(name)


def cut(name, *shape):
    """The first numbers of a tensor in another shape."""
    return lambda tensors: tensors.update({name: np.resize(tensors[name], shape).copy()})


def beside(name, like=None):
    return lambda tensors: tensors.update({name: np.ones((2, 2), np.float32) if like is None else tensors[like].copy()})


def spoilt(name, value):
    return lambda tensors: tensors[name].reshape(-1).__setitem__(0, value)


def save(family, folder):
    """Two layers of a family, of different kinds; four where it has four."""
    changes = LAYERS.get(family.removesuffix("_text"), {})
    tiny.save_checkpoint(
        tiny_families.quantizable(family, num_hidden_layers=4 if family == NEMOTRON else 2, **changes), folder, 0
    )


BROKEN = {
    "no decay": (QWEN, without(f"{NET}.A_log"), r"linear_attn\.A_log is missing"),
    "decay that is no number": (QWEN, spoilt(f"{NET}.A_log", np.nan), r"linear_attn\.A_log holds NaN"),
    "no bias of steps": (QWEN, without(f"{NET}.dt_bias"), r"linear_attn\.dt_bias is missing"),
    "a decay too few": (QWEN, cut(f"{NET}.A_log", 3), r"linear_attn\.A_log has the shape \(3,\)"),
    "a tap too few": (QWEN, cut(f"{NET}.conv1d.weight", 128, 1, 3), r"conv1d\.weight has the shape \(128, 1, 3\)"),
    "a convolution of all channels": (QWEN, cut(f"{NET}.conv1d.weight", 128, 128, 4), r"conv1d\.weight has the shape"),
    "queries without gates": (QWEN, cut("model.layers.1.self_attn.q_proj.weight", 128, 128), r"q_proj\.weight has the"),
    "two layouts of projections": (QWEN, beside(f"{NET}.in_proj_qkvz.weight"), r"in_proj_qkvz\.weight has no place"),
    "experts twice": (
        QWEN, beside("model.layers.0.mlp.experts.gate_up_proj"), "the same weights in two layouts: keep one",
    ),
    "no step through": (NEMOTRON, without(f"{MAMBA}.D"), r"layers\.0\.mixer\.D is missing"),
    "no bias of taps": (NEMOTRON, without(f"{MAMBA}.conv1d.bias"), r"mixer\.conv1d\.bias is missing"),
    "a wider input": (NEMOTRON, cut(f"{MAMBA}.in_proj.weight", 300, 128), r"in_proj\.weight has the shape \(300,"),
    "gates where there are none": (
        NEMOTRON, beside("backbone.layers.1.mixer.experts.0.gate_proj.weight"), r"gate_proj\.weight has no place",
    ),
    "two decoders": (
        NEMOTRON, lambda t: t.update({n.replace("backbone", "model"): v.copy() for n, v in t.items()}),
        r"holds two decoders, backbone\.layers and model\.layers",
    ),
    "a shorter norm": (GRANITE, cut("model.layers.0.mamba.norm.weight", 64), r"mamba\.norm\.weight has the shape"),
    "no number of a layer": ("gemma4_text", without(f"{GEMMA}.layer_scalar"), r"layers\.1\.layer_scalar is missing"),
    "a scale too few": ("gemma4_text", cut(f"{GEMMA}.router.per_expert_scale", 7), r"per_expert_scale has the shape"),
    "values that are keys": (
        "gemma4_text", beside(f"{GEMMA}.self_attn.v_proj.weight", f"{GEMMA}.self_attn.k_proj.weight"),
        r"layers\.1\.self_attn\.v_proj\.weight has no place",
    ),
    "a gate for each channel": (
        "laguna", cut("model.layers.0.self_attn.g_proj.weight", 64, 128), r"g_proj\.weight has the shape \(64, 128\)",
    ),
    "two corrections": (
        "laguna", beside("model.layers.1.mlp.gate.e_score_correction_bias"), "which are the same: keep one",
    ),
    "two names of shared experts": (
        "laguna", beside("model.layers.1.mlp.shared_experts.up_proj.weight"), "which are the same: keep one",
    ),
    "a second norm": (
        "cohere2_moe", beside("model.layers.0.post_attention_layernorm.weight"), "layernorm.weight has no place",
    ),
    "no sinks": ("granitemoe_swa", without("model.layers.0.self_attn.sinks"), r"self_attn\.sinks is missing"),
    "no gate of attention": ("afmoe", without("model.layers.0.self_attn.gate_proj.weight"), "gate_proj.* is missing"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_tensors_are_told_by_name(wrong, tmp_path):
    family, edit, match = BROKEN[wrong]
    save(family, tmp_path / "checkpoint")
    edit_tensors(tmp_path / "checkpoint", edit)
    refuse(tmp_path / "checkpoint", match, FP32)


@pytest.mark.parametrize(
    ("family", "changes", "match"),
    [
        (QWEN, {"layer_types": ["linear_attention"]}, "layer_types .* it must name each of the"),
        (QWEN, {"layer_types": ["mamba3"] * 4, "num_hidden_layers": 4}, "moedge knows .* and not 'mamba3'"),
        (QWEN, {"linear_num_value_heads": 3}, "3 heads of values cannot share 2 of keys"),
        (NEMOTRON, {"layers_block_type": ["mamba", "moe", "lstm"], "num_hidden_layers": 3}, "and not 'lstm'"),
        (NEMOTRON, {"layers_block_type": ..., "hybrid_override_pattern": "ME*X"}, "moedge does not know X"),
        (NEMOTRON, {"hybrid_override_pattern": "MM*E"}, "layers_block_type says otherwise: keep one"),
        (NEMOTRON, {"n_groups": 3}, "4 heads in 3 groups"),
        (GRANITE, {"mamba_n_heads": 3}, "mamba_expand times hidden_size"),
        (GRANITE, {"mamba_n_groups": 3}, "8 heads in 3 groups"),
        ("gemma4_text", {"layer_types": ["full_attention"] * 9}, "it must name each of the"),
        ("laguna", {"num_attention_heads_per_layer": [4]}, "it must name each of the 2 layers"),
        ("laguna", {"num_attention_heads_per_layer": [4, 5]}, "5 heads on 2 key and value heads"),
    ],
)
def test_configs_that_contradict_themselves(family, changes, match, tmp_path):
    save(family, tmp_path / "checkpoint")
    edit_config(tmp_path / "checkpoint", **changes)
    refuse(tmp_path / "checkpoint", match, FP32)
