"""Bundles are valid ONNX, shapes inferred, and the `if` plan runs on the ONNX reference evaluator step by step."""

import numpy as np
import onnx
import pytest
import tiny_families
import tiny_models as tiny
from onnx.reference import ReferenceEvaluator
from tiny_hybrids import WITHOUT_FUSED

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest

MODELS = {
    "deepseek": tiny.deepseek_v3(q_lora_rank=64, v_head_dim=16),
    "qwen3": tiny.qwen3_moe(),
    "qwen3-tied": tiny.qwen3_moe(tie_word_embeddings=True, attention_bias=True, mlp_only_layers=[0]),
    "all-dense": tiny.deepseek_v3(first_k_dense_replace=3, q_lora_rank=64, v_head_dim=16),
}
SCHEMES = {
    "native": ("int4", "int4-block32-zp", "int5", "int6-zp", "int8", "int8-block64-zp"),
    "fused": ("int4", "int4-block32-zp", "int5", "int6-zp", "int8", "int8-block64-zp"),
    "if": ("fp32", "int4-block32", "int5-zp", "int6", "int8"),
}


def export(config, scheme, plan, folder):
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan(scheme), plan))
    return folder / "bundle"


@pytest.mark.parametrize(("plan", "scheme"), [(plan, scheme) for plan, names in SCHEMES.items() for scheme in names])
@pytest.mark.parametrize("model", MODELS)
def test_every_graph_passes_the_checker(model, plan, scheme, tmp_path):
    bundle = export(MODELS[model], scheme, plan, tmp_path)
    graphs = sorted(bundle.glob("*.onnx"))
    assert [path.name for path in graphs] == sorted(
        name for name in read_manifest(bundle).files if name[-5:] == ".onnx"
    )
    assert len(graphs) == (2 if plan == "fused" and model != "all-dense" else 1)
    for path in graphs:
        onnx.checker.check_model(str(path), full_check=True)


@pytest.mark.parametrize(("plan", "scheme"), [("native", "int4"), ("fused", "int4"), ("if", "fp32")])
@pytest.mark.parametrize("family", tiny_families.MAKERS)
def test_every_family_passes_the_checker(family, plan, scheme, tmp_path):
    if plan == "fused" and family in WITHOUT_FUSED:
        pytest.skip("onnxruntime has no experts like these, and the export says so")
    bundle = export(tiny_families.quantizable(family), scheme, plan, tmp_path)
    onnx.checker.check_model(str(bundle / "model.onnx"), full_check=True)


EVALUATED = [
    ("deepseek", "int4-block32-zp"),
    ("qwen3-tied", "int4-block32-zp"),
    *((model, "fp32") for model in ("deepseek", "qwen3-tied", *tiny_families.MAKERS)),
]


@pytest.mark.parametrize(("model", "scheme"), EVALUATED)
def test_the_reference_evaluator_continues_a_text(model, scheme, tmp_path):
    config = MODELS[model] if model in MODELS else tiny_families.MAKERS[model]()
    bundle = export(config, scheme, "if", tmp_path)
    evaluator = ReferenceEvaluator(onnx.load(bundle / "model.onnx"))
    cache = read_manifest(bundle).cache
    rows = {
        t.past: np.zeros((1, *([] if t.is_state else [t.window]), *t.shape), np.float32) for t in cache
    }  # none yet, or a state of nothing
    ids, found = [5, 77, 140, 9, 33], []
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        feeds = {"input_ids": np.array([ids[start:stop]]), "attention_mask": np.ones((1, stop), np.int64)}
        [logits, *new] = evaluator.run(["logits", *(t.present for t in cache)], feeds | rows)
        rows = {
            t.past: part if t.is_state else np.concatenate([rows[t.past], part], 1)
            for t, part in zip(cache, new, strict=True)
        }
        rows |= {t.past: rows[t.past][:, -t.window :] for t in cache if t.window}
        found.append(logits[0, -1])
    ours = Engine.load(bundle).score(ids)[[2, 3, 4]]
    assert np.abs(np.array(found) - ours).max() < 1e-4 * np.abs(ours).max()
