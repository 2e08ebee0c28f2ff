"""config.json as published and as transformers reads it: real models, defaults of absent keys, what is refused."""

import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config, Qwen3MoeConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeRotaryEmbedding

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config

# From the config.json of each, without what concerns training and loading only.
QWEN3_30B_A3B = {
    "model_type": "qwen3_moe", "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
    "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32,
    "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "attention_bias": False, "ep_size": 1, "first_k_dense_replace": 3,
    "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 18432, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
    "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096, "type": "yarn",
    },
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False,
    "topk_group": 4, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip
KIMI_K2_THINKING = DEEPSEEK_V3 | {
    "model_type": "kimi_k2", "aux_loss_alpha": 0.001, "seq_aux": True, "first_k_dense_replace": 1,
    "max_position_embeddings": 262144, "n_group": 1, "topk_group": 1, "n_routed_experts": 384,
    "num_attention_heads": 64, "num_key_value_heads": 64, "num_nextn_predict_layers": 0, "rms_norm_eps": 1e-05,
    "rope_scaling": DEEPSEEK_V3["rope_scaling"] | {"beta_fast": 1.0, "beta_slow": 1.0, "factor": 64.0},
    "rope_theta": 50000.0, "routed_scaling_factor": 2.827, "vocab_size": 163840,
}  # fmt: skip
MOONLIGHT = KIMI_K2_THINKING | {
    "model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 11264, "max_position_embeddings": 8192,
    "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16,
    "num_key_value_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "q_lora_rank": None,
    "rope_scaling": None, "routed_scaling_factor": 2.446,
}  # fmt: skip
PUBLISHED = {"qwen3": QWEN3_30B_A3B, "deepseek": DEEPSEEK_V3, "kimi": KIMI_K2_THINKING, "moonlight": MOONLIGHT}


def read(data, **changes):
    data = data | changes
    return read_model_config(Config({k: v for k, v in data.items() if v is not ...}))


def theirs(data, **changes):
    data = {k: v for k, v in (data | changes).items() if k != "model_type" and v is not ...}
    return (Qwen3MoeConfig if "num_experts" in data else DeepseekV3Config)(**data)


def same_rotation(data, **changes):
    """Rotary tables (and DeepSeek's attention scale) equal those of transformers."""
    ours, config = read(data, **changes), theirs(data, **changes)
    kind = Qwen3MoeRotaryEmbedding if isinstance(config, Qwen3MoeConfig) else DeepseekV3RotaryEmbedding
    cos, sin = kind(config)(torch.zeros(1), torch.arange(300)[None])
    for table, reference in zip(ours.mixers[0].rope.tables(300), (cos, sin), strict=True):
        assert np.abs(table - reference[0, :, : table.shape[1]].numpy()).max() < 1e-4
    if isinstance(config, DeepseekV3Config):
        with torch.device("meta"):
            assert ours.mixers[0].scale == pytest.approx(DeepseekV3Attention(config, 0).scaling)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_rotate_as_in_transformers(name):
    same_rotation(PUBLISHED[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": ..., "rope_scaling": ...},
        {"rope_theta": ..., "rope_scaling": ..., "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
        {"rope_scaling": {"type": "yarn", "factor": None, "original_max_position_embeddings": 10240}},
        {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": None, "truncate": False}},
        {"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": 1.5, "mscale": 0.5}},
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}},
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 1.0, "beta_slow": 8.0}},
        {  # a user's YaRN beside what transformers 5 has written
            "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ],
)  # fmt: skip
def test_rope_keys_old_and_new(changes):
    same_rotation(QWEN3_30B_A3B, **changes)


def test_published_configs_are_read_whole():
    assert read(QWEN3_30B_A3B).experts.router.normalize
    assert read(QWEN3_30B_A3B).moe_layers == tuple(range(48))
    deepseek = read(DEEPSEEK_V3)
    assert deepseek.moe_layers == tuple(range(3, 61))
    assert (deepseek.experts.router.n_group, deepseek.experts.router.topk_group) == (8, 4)
    assert any("61" in pattern for pattern in deepseek.names.ignored)
    kimi = read(KIMI_K2_THINKING)
    assert (kimi.model_type, kimi.experts.num_experts, kimi.experts.router.scale) == ("kimi_k2", 384, 2.827)
    assert not any("61" in pattern for pattern in kimi.names.ignored)
    moonlight = read(MOONLIGHT)
    assert moonlight.mixers[0].q_lora_rank is None
    assert moonlight.experts.shared_intermediate_size == 2816


def test_absent_keys_mean_what_they_mean_in_transformers():
    keys = ("n_group", "topk_group", "routed_scaling_factor", "first_k_dense_replace", "norm_topk_prob")
    for key in (*keys, "n_shared_experts", "rms_norm_eps", "tie_word_embeddings", "attention_bias"):
        ours, config = read(DEEPSEEK_V3, **{key: ...}), theirs(DEEPSEEK_V3, **{key: ...})
        router = ours.experts.router
        assert (router.n_group, router.topk_group) == (config.n_group, config.topk_group)
        assert (router.scale, router.normalize) == (config.routed_scaling_factor, config.norm_topk_prob)
        assert ours.moe_layers[0] == config.first_k_dense_replace
        assert ours.experts.shared_intermediate_size == 2048 * config.n_shared_experts
        assert ours.norm_eps == config.rms_norm_eps
    for key in ("num_key_value_heads", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers", "attention_bias"):
        ours, config = read(QWEN3_30B_A3B, **{key: ...}), theirs(QWEN3_30B_A3B, **{key: ...})
        assert ours.mixers[0].num_kv_heads == config.num_key_value_heads
        assert ours.experts.router.normalize == config.norm_topk_prob
        assert len(ours.moe_layers) == 48


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"num_experts_per_tok": 129}, "129 experts a token out of 128"),
        ({"n_group": 7}, "7 groups"),
        ({"topk_group": 9}, "9 of 8 groups"),
        ({"topk_group": 1, "num_experts_per_tok": 33}, "33 experts a token out of 32"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"rope_scaling": {"type": "yarn", "factor": "four"}}, "factor"),
        ({"rope_scaling": {"type": "ntk", "factor": 4}}, "ntk"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"qk_rope_head_dim": 63}, "63 dimensions"),
        ({"scoring_func": "softmax"}, "scoring_func"),
    ],
)
def test_impossible_values(changes, match):
    with pytest.raises(MoedgeError, match=match):
        read(DEEPSEEK_V3, **changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_key_value_heads": 5}, "32 heads on 5"),
        ({"mlp_only_layers": 3}, "mlp_only_layers"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ({"use_sliding_window": "yes"}, "use_sliding_window"),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window"),
    ],
)
def test_impossible_values_of_qwen3(changes, match):
    with pytest.raises(MoedgeError, match=match):
        read(QWEN3_30B_A3B, **changes)
