"""The `if` plan is standard ONNX and conditional: an expert that no token is routed to is never run."""

import numpy as np
import onnx
import pytest
import tiny_models as tiny
from onnx.reference import ReferenceEvaluator

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

CONFIG = tiny.deepseek_v3(num_hidden_layers=2, first_k_dense_replace=1, n_routed_experts=16, num_experts_per_tok=2)


def poison(bundle, expert):
    """Overwrite an expert's matrices in weights.bin with NaN."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    [node] = [n for n in model.graph.node if n.op_type == "If" and f"experts.{expert}/" in n.name]
    branch = next(a.g for a in node.attribute if a.name == "then_branch")
    regions = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in branch.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    assert len(regions) == 3  # gate, up, down
    with (bundle / "weights.bin").open("r+b") as file:
        for region in regions:
            file.seek(int(region["offset"]))
            file.write(np.full(int(region["length"]) // 4, np.nan, np.float32).tobytes())


def test_an_unrouted_expert_costs_and_spoils_nothing(tmp_path):
    model = tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    ids = [5, 77, 140]
    clean = Engine.load(tmp_path / "bundle").score(ids)
    routed = routed_experts(model, ids)
    idle = next(e for e in range(16) if e not in routed)
    poison(tmp_path / "bundle", idle)
    assert np.array_equal(Engine.load(tmp_path / "bundle", check_hashes=False).score(ids), clean)
    poison(tmp_path / "bundle", routed.pop())
    with pytest.raises(Exception, match=r"NaN|not a number|finite"):
        scores = Engine.load(tmp_path / "bundle", check_hashes=False).score(ids)
        raise AssertionError("NaN" if np.isnan(scores).any() else "the routed expert did not run")


def routed_experts(model, ids):
    """The experts that transformers sends these tokens to in the last layer."""
    seen = set()
    hook = model.model.layers[-1].mlp.gate.register_forward_hook(
        lambda _, __, out: seen.update(out[2].flatten().tolist())
    )
    tiny.reference_logits(model, np.array(ids))
    hook.remove()
    return seen


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4", "int4-block32-zp"])
@pytest.mark.parametrize("config", [CONFIG, tiny.qwen3_moe(num_hidden_layers=1)], ids=["deepseek", "qwen3"])
def test_if_plan_is_standard_onnx(config, scheme, tmp_path):
    if config is CONFIG:
        config = tiny.deepseek_v3(num_hidden_layers=2, q_lora_rank=64, v_head_dim=16, kv_lora_rank=32)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan(scheme), "if"))
    path = tmp_path / "bundle" / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert [o.domain for o in model.opset_import] == [""]
    engine = Engine.load(tmp_path / "bundle")
    ids = [5, 77, 140, 9]
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, 4), np.int64), "logits_to_keep": np.array(4)}
    feeds |= {c.past: np.zeros((1, 0, *c.shape), np.float32) for c in engine.manifest.cache}
    [logits, *_] = ReferenceEvaluator(model).run(None, feeds)
    ours = engine.score(ids)
    assert np.abs(logits[0] - ours).max() < 1e-4 * np.abs(ours).max()


def test_fused_plan_passes_the_checker(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4"), "fused"))
    onnx.checker.check_model(str(tmp_path / "bundle" / "model.onnx"))
    onnx.checker.check_model(str(tmp_path / "bundle" / "probe.onnx"))
    nodes = onnx.load(tmp_path / "bundle" / "model.onnx").graph.node
    operators = [node.op_type for node in nodes]
    assert operators.count("QMoE") == 3
    assert "If" not in operators
    # attention rotates within its kernel, where heads are of a size that it takes
    attributes = [{a.name: a.i for a in node.attribute} for node in nodes if node.op_type == "GroupQueryAttention"]
    assert [given["do_rotary"] for given in attributes] == [1, 1, 1]
    assert "RotaryEmbedding" not in operators
