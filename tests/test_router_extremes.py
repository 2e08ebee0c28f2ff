"""Routers whose scores are nearly all 0 or 1, as trained ones can be: against transformers, and both plans alike."""

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
import torch

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

IDS = np.random.default_rng(0).integers(2, 211, 60)
# family, its changes, what the router's weights are multiplied by, and the spread of the correction bias
CASES = {
    "deepseek": ("deepseek_v3", {"n_routed_experts": 6}, 60, 8),
    "deepseek-one": ("deepseek_v3", {"n_routed_experts": 4, "num_experts_per_tok": 1}, 60, 8),
    "glm-groups": ("glm4_moe", {"n_group": 2, "topk_group": 1}, 40, 3),
    "lfm2": ("lfm2_moe", {}, 20, 3),
    "ernie": ("ernie4_5_moe", {"moe_norm_min": 1e-4}, 30, 1),
    "ernie-least-sum": ("ernie4_5_moe", {"moe_norm_min": 0.9}, 1, 0.05),
}


def save(folder, family, changes, factor, spread):
    """A checkpoint of a quantizable size with an extreme router."""
    model = tiny.save_checkpoint(tiny_families.quantizable(family, **changes), folder, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("gate.weight"):
                tensor.mul_(factor)
            elif name.endswith(("correction_bias", "expert_bias")):
                tensor.normal_(0, spread)
    model.save_pretrained(folder)
    return model


def assert_twins(folder, monkeypatch):
    """The int4 bundle's fused plan equals its twin where every kernel keeps fp32 activations."""
    for plan in ("if", "fused"):
        export_bundle(folder / "checkpoint", folder / plan, ExportOptions(parse_plan("int4"), plan))
    exact = Engine.load(folder / "if").score(IDS.tolist())
    same = tiny.with_exact_kernels(folder / "fused", monkeypatch).score(IDS.tolist())
    assert np.abs(same - exact).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("case", CASES)
def test_fp32_equals_transformers_and_fused_the_twin(case, tmp_path, monkeypatch):
    model = save(tmp_path / "checkpoint", *CASES[case])
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    reference = tiny.reference_logits(model, IDS)
    ours = Engine.load(tmp_path / "bundle").score(IDS.tolist())
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()
    assert_twins(tmp_path, monkeypatch)


def test_saturated_scores_rank_as_their_logits(tmp_path, monkeypatch):
    """Without a correction bias many scores are the very same 1 or 0: both plans still choose alike."""
    save(tmp_path / "checkpoint", "lfm2_moe", {"use_expert_bias": False}, 100, 0)
    assert_twins(tmp_path, monkeypatch)
