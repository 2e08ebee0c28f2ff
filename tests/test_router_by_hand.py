"""What a router decides, by hand: groups, their ties, what the chosen count. No reference but arithmetic."""

from dataclasses import replace

import numpy as np
import onnx
import tiny_families
import tiny_models as tiny
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from moedge.export import understanding as exporting
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

LAYER = "model.layers.1.mlp"
IDS = np.random.default_rng(0).integers(2, 211, 20).tolist()


def run_router(bundle, logits):
    """(selection scores [s, experts], experts [s, k], their weights [s, k]) that layer 1 makes of router logits."""
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    start = f"{LAYER}.router_logits"
    reached, nodes = {start}, []
    for node in graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            nodes.append(node)
        if node.op_type == "Split" and reached & set(node.input):  # one output an expert
            break
    chosen = [node.output[1] for node in nodes if node.op_type == "TopK"][-1]
    weights = [node.output[0] for node in nodes if node.op_type in ("GatherElements", "Div", "Mul")][-1]
    outputs = (f"{LAYER}.selection_scores_in_groups", chosen, weights)
    named = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "router",
        [helper.make_tensor_value_info(start, TensorProto.FLOAT, None)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [tensor for tensor in graph.initializer if tensor.name in named],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)])
    return ReferenceEvaluator(model).run(None, {start: np.array(logits, np.float32)})


def test_the_best_groups_by_their_two_best_experts(tmp_path):
    config = tiny.deepseek_v3(num_hidden_layers=2, n_routed_experts=12, n_group=4, topk_group=2)
    model = tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    with torch.no_grad():
        model.model.layers[1].mlp.gate.e_score_correction_bias.zero_()[6] = 0.6
    model.save_pretrained(tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    scores = np.array(
        [
            # 1.0 with the best expert of all, 1.25, 1.1 + 0.25 for the bias, 1.2 that would be most as a sum of three
            [[0.9, 0.1, 0.1], [0.75, 0.5, 0.1], [0.5, 0.25, 0.1], [0.6, 0.6, 0.5]],
            # the second place is shared: neither group is left out
            [[0.75, 0.5, 0.1], [0.75, 0.5, 0.1], [0.5, 0.25, 0.1], [0.6, 0.6, 0.5]],
            # all alike but for the bias
            [[0.5, 0.5, 0.5]] * 4,
        ]
    ).reshape(3, 12)
    select, chosen, weights = run_router(tmp_path / "bundle", np.log(scores / (1 - scores)))
    inside = np.repeat([[False, True, True, False], [True, True, True, False], [True] * 4], 3, axis=1)
    assert np.array_equal(np.isfinite(select), inside)
    biased = scores + np.where(np.arange(12) == 6, 0.6, 0)
    assert np.allclose(select[inside], biased[inside], atol=1e-6)
    # the bias selects and does not weigh: scores over their sum, times routed_scaling_factor
    assert chosen[:2].tolist() == [[6, 3, 4], [6, 0, 3]]
    assert np.allclose(weights[0], 2.5 * np.array([0.5, 0.75, 0.5]) / 1.75, atol=1e-6)
    assert np.allclose(weights[1], 2.5 * np.array([0.5, 0.75, 0.75]) / 2, atol=1e-6)
    assert chosen[2][0] == 6
    assert np.allclose(weights[2], 2.5 / 3, atol=1e-6)


def test_the_best_group_by_its_best_expert(tmp_path):
    groups = {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "n_routed_experts": 8}
    tiny.save_checkpoint(tiny_families.small("deepseek_v2", num_hidden_layers=2, **groups), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    # the second group has more by any sum
    scores = np.array([[0.3, 0.03, 0.02, 0.01, 0.17, 0.17, 0.16, 0.14]])
    select, chosen, weights = run_router(tmp_path / "bundle", np.log(scores))
    assert np.allclose(select[0, :4], scores[0, :4], atol=1e-6)
    assert (select[0, 4:] == -np.inf).all()
    assert chosen.tolist() == [[0, 1, 2]]
    # the softmax as it is, times routed_scaling_factor
    assert np.allclose(weights[0], [0.45, 0.045, 0.03], atol=1e-6)


def test_deepseek_v2_divides_by_the_sum_of_the_chosen_and_does_not_scale_it(tmp_path):
    """transformers takes the softmax as it is here, times routed_scaling_factor; the makers' code does not."""
    groups = {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "n_routed_experts": 8}
    groups |= {"norm_topk_prob": True, "routed_scaling_factor": 16.0, "num_hidden_layers": 2}
    tiny.save_checkpoint(tiny_families.small("deepseek_v2", **groups), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    scores = np.array([[0.2, 0.1, 0.04, 0.06, 0.1, 0.15, 0.17, 0.18], [0.01, 0.02, 0.03, 0.04, 0.1, 0.3, 0.45, 0.05]])
    _, chosen, weights = run_router(tmp_path / "bundle", np.log(scores))
    assert chosen.tolist() == [[0, 1, 3], [6, 5, 4]]
    assert np.allclose(weights[0], np.array([0.2, 0.1, 0.06]) / 0.36, atol=1e-6)
    assert np.allclose(weights[1], np.array([0.45, 0.3, 0.1]) / 0.85, atol=1e-6)


def test_a_routing_scale_is_on_the_biases_of_experts_too(tmp_path, monkeypatch):
    """No published family has both; both plans have to agree on what it would mean."""
    model = tiny.save_checkpoint(tiny_families.quantizable("gpt_oss"), tmp_path / "checkpoint", 0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("experts.down_proj_bias"):
                tensor.normal_(0, 1)
    model.save_pretrained(tmp_path / "checkpoint")

    def read(config):
        model = plainly(config)
        return replace(model, experts=replace(model.experts, router=replace(model.experts.router, scale=3.0)))

    plainly = exporting.read_model_config
    monkeypatch.setattr(exporting, "read_model_config", read)
    for plan in ("if", "fused"):
        export_bundle(tmp_path / "checkpoint", tmp_path / plan, ExportOptions(parse_plan("int4"), plan))
    exact = Engine.load(tmp_path / "if").score(IDS)
    same = tiny.with_exact_kernels(tmp_path / "fused", monkeypatch).score(IDS)
    assert np.abs(same - exact).max() < 1e-4 * np.abs(exact).max()
