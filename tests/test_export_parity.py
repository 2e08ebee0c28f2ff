"""Every family against transformers, in fp32, on tiny random models: logits at every position, greedy continuation."""

import json

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from safetensors.torch import load_file, save_file

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine, SamplingParams

SHAPES = {
    "deepseek": tiny.deepseek_v3(),
    "deepseek-no-q-lora": tiny.deepseek_v3(q_lora_rank=None, n_shared_experts=2),
    "deepseek-groups": tiny.deepseek_v3(n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=4),
    "deepseek-tied-no-dense": tiny.deepseek_v3(tie_word_embeddings=True, first_k_dense_replace=0),
    "deepseek-odd": tiny.deepseek_v3(
        n_routed_experts=7, moe_intermediate_size=19, first_k_dense_replace=2, num_experts_per_tok=2,
        attention_bias=True, v_head_dim=10, intermediate_size=51,
    ),
    "deepseek-raw-weights": tiny.deepseek_v3(norm_topk_prob=False, routed_scaling_factor=1.0, q_lora_rank=None),
    "deepseek-plain-rope": tiny.deepseek_v3(rope_interleave=False),
    "deepseek-yarn": tiny.deepseek_v3(
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64,
            "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.8,
        }
    ),
    "qwen3": tiny.qwen3_moe(),
    "qwen3-raw-weights": tiny.qwen3_moe(norm_topk_prob=False, num_experts=5, num_experts_per_tok=2),
    "qwen3-tied-bias-dense": tiny.qwen3_moe(
        tie_word_embeddings=True, attention_bias=True, mlp_only_layers=[1], num_key_value_heads=1
    ),
    "qwen3-sparse-step": tiny.qwen3_moe(decoder_sparse_step=2, num_key_value_heads=4, moe_intermediate_size=21),
    "qwen3-yarn": tiny.qwen3_moe(
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128,
        }
    ),
    **tiny_families.SHAPES,
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_equals_transformers(shape, seed, tmp_path):
    model = tiny.save_checkpoint(SHAPES[shape], tmp_path / "checkpoint", seed)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    engine = Engine.load(tmp_path / "bundle")
    ids = np.random.default_rng(seed).integers(2, 211, 90)
    reference = tiny.reference_logits(model, ids)
    assert np.abs(engine.score(ids.tolist()) - reference).max() <= 1e-3 * np.abs(reference).max()

    never_end = SamplingParams(temperature=0, max_tokens=32, logit_bias={1: -1e4})
    tokens = [t.token_id for t in engine.generate(ids[:20].tolist(), never_end)]
    assert len(tokens) == 32
    assert tokens == tiny.reference_greedy(model, ids[:20], tokens, banned=1)


def test_sharded_checkpoint_exports_the_same_bytes(tmp_path):
    config = tiny.deepseek_v3()
    for name, shard in (("whole", "5GB"), ("sharded", "100KB")):
        tiny.save_checkpoint(config, tmp_path / name, 0, shard)
        export_bundle(tmp_path / name, tmp_path / f"{name}-bundle", ExportOptions(parse_plan("fp32")))
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    whole, sharded = (tmp_path / f"{n}-bundle" / "weights.bin" for n in ("whole", "sharded"))
    assert whole.read_bytes() == sharded.read_bytes()


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_tied_head_that_is_stored_counts_if_it_differs(factor, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny.qwen3_moe(tie_word_embeddings=True), checkpoint, 0)
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * factor
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    notes = json.loads((tmp_path / "bundle" / "report.json").read_text())["notes"]
    assert any("lm_head differs" in note for note in notes) == (factor != 1)
    ids = np.random.default_rng(0).integers(2, 211, 30)
    reference = tiny.reference_logits(tiny.load_checkpoint(checkpoint), ids)
    ours = Engine.load(tmp_path / "bundle").score(ids.tolist())
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()


def test_half_precision_checkpoints_are_read_exactly(tmp_path):
    model = tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    model.bfloat16().save_pretrained(tmp_path / "checkpoint")
    model = tiny.load_checkpoint(tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    ids = np.random.default_rng(0).integers(2, 211, 30)
    reference = tiny.reference_logits(model, ids)
    assert (
        np.abs(Engine.load(tmp_path / "bundle").score(ids.tolist()) - reference).max() <= 1e-3 * np.abs(reference).max()
    )
