"""Small configurations of every family beside those of tiny_models.py, and the shapes that parity is tested on."""

from collections.abc import Callable
from typing import Any

import tiny_hybrids
import tiny_models as tiny
from transformers import (
    DeepseekV2Config,
    Dots1Config,
    Ernie4_5_MoeConfig,
    Glm4MoeConfig,
    Glm4MoeLiteConfig,
    Glm4vMoeConfig,
    GptOssConfig,
    GraniteMoeConfig,
    GraniteMoeSharedConfig,
    Kimi_K25Config,
    Lfm2MoeConfig,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    PreTrainedConfig,
    Qwen2MoeConfig,
)

COMMON: dict[str, Any] = {
    "vocab_size": 211, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 512, "tie_word_embeddings": False, "pad_token_id": None,
    "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.1,
}  # fmt: skip
LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 3}
ROUTED = {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
# an iteration of the frequencies' divisors a head of 16, 8 of them
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256,
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.8, 2.0], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0],
    "short_mscale": 1.1, "long_mscale": 1.2,
}  # fmt: skip
GPT_OSS_YARN = {
    "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "truncate": False, "original_max_position_embeddings": 64,
}  # fmt: skip
DEEPSEEK_YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64,
    "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
}  # fmt: skip
# of a head of 16 it slows four waves down by 8, keeps two, and blends two
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LATENT = {
    "kv_lora_rank": 32, "q_lora_rank": 48, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16,
    "num_key_value_heads": 4,
}  # fmt: skip

BASES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = tiny_hybrids.BASES | {
    "mixtral": (MixtralConfig, LOCAL),
    "deepseek_v2": (
        DeepseekV2Config,
        ROUTED | LATENT | {"n_shared_experts": 2, "first_k_dense_replace": 1, "routed_scaling_factor": 1.5},
    ),
    "qwen2_moe": (
        Qwen2MoeConfig,
        {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
         "shared_expert_intermediate_size": 48},
    ),
    "olmoe": (OlmoeConfig, {"num_experts": 8, "num_experts_per_tok": 3}),
    "granitemoe": (
        GraniteMoeConfig,
        LOCAL | {"embedding_multiplier": 6.0, "residual_multiplier": 0.22, "logits_scaling": 4.0,
                 "attention_multiplier": 0.1},
    ),
    "granitemoeshared": (
        GraniteMoeSharedConfig,
        LOCAL | {"embedding_multiplier": 6.0, "residual_multiplier": 0.22, "logits_scaling": 4.0,
                 "attention_multiplier": 0.1, "shared_intermediate_size": 32},
    ),
    "lfm2_moe": (
        Lfm2MoeConfig,
        {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "num_hidden_layers": 4,
         "num_dense_layers": 1, "layer_types": ["conv", "conv", "full_attention", "conv"],
         "tie_word_embeddings": True},
    ),
    "gpt_oss": (GptOssConfig, LOCAL | {"head_dim": 32, "sliding_window": 12, "rope_parameters": GPT_OSS_YARN}),
    "ernie4_5_moe": (
        Ernie4_5_MoeConfig,
        {"moe_num_experts": 8, "moe_k": 3, "moe_intermediate_size": 32, "tie_word_embeddings": True},
    ),
    "glm4_moe": (
        Glm4MoeConfig,
        ROUTED | {"head_dim": 32, "attention_bias": True, "routed_scaling_factor": 1.5, "first_k_dense_replace": 1},
    ),
    "glm4_moe_lite": (
        Glm4MoeLiteConfig,
        ROUTED | LATENT | {"n_shared_experts": 1, "routed_scaling_factor": 1.8},
    ),
    "dots1": (
        Dots1Config,
        ROUTED | {"n_shared_experts": 2, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5,
                  "norm_topk_prob": True},
    ),
    "phimoe": (
        PhimoeConfig,
        {"num_local_experts": 8, "num_experts_per_tok": 2, "attention_bias": True, "lm_head_bias": True,
         "rope_parameters": LONGROPE, "router_jitter_noise": 0.1},
    ),
}  # fmt: skip


def small(family: str, **changes: Any) -> PreTrainedConfig:
    """The family's small configuration with some values changed."""
    kind, values = BASES[family]
    return kind(**(COMMON | values | changes))


def kimi_k25(**changes: Any) -> PreTrainedConfig:
    """A small Kimi K2.5 with a vision tower that nobody looks through; changes are the text model's."""
    text = tiny.deepseek_v3(**changes)
    vision = {
        "patch_size": 4, "pos_emb_height": 4, "pos_emb_width": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
        "hidden_size": 32, "intermediate_size": 48,
    }  # fmt: skip
    return Kimi_K25Config(
        text_config=text.to_dict(), vision_config=vision, projection_hidden_size=32, image_token_id=1,
        video_token_id=1, vision_start_token_id=1, vision_end_token_id=1, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=text.tie_word_embeddings,
    )  # fmt: skip


def glm4v_moe(**changes: Any) -> PreTrainedConfig:
    """A small GLM-4.5V with a vision tower that nobody looks through; changes are the text model's."""
    _, values = BASES["glm4_moe"]
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [2, 3, 3]}
    text = COMMON | values | {"rope_parameters": rope} | changes
    vision = {
        "depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "image_size": 16, "intermediate_size": 48,
        "out_hidden_size": text["hidden_size"],
    }  # fmt: skip
    return Glm4vMoeConfig(
        text_config=text, vision_config=vision, image_token_id=2, video_token_id=3, image_start_token_id=4,
        image_end_token_id=5, video_start_token_id=6, video_end_token_id=7, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=text["tie_word_embeddings"],
    )  # fmt: skip


def _text_of(family: str) -> Callable[..., PreTrainedConfig]:
    """Makes a small model of several kinds of input around the text model of a family."""
    around = getattr(tiny_hybrids, family)
    return lambda **changes: around(small(f"{family}_text", **changes))


def _maker(family: str) -> Callable[..., PreTrainedConfig]:
    return lambda **changes: small(family, **changes)


MAKERS: dict[str, Callable[..., PreTrainedConfig]] = {
    "deepseek_v3": tiny.deepseek_v3, "kimi_k25": kimi_k25, "glm4v_moe": glm4v_moe,
    "qwen3_moe": tiny.qwen3_moe,
    **{name: _maker(name) for name in BASES},
    **{name: _text_of(name) for name in ("qwen3_5_moe", "gemma4")},
}  # fmt: skip

SHAPES: dict[str, PreTrainedConfig] = {
    **{name: small(name) for name in tiny_hybrids.BASES},
    **{name: small(family, **changes) for name, (family, changes) in tiny_hybrids.SHAPES.items()},
    **{name: MAKERS[name]() for name in ("qwen3_5_moe", "gemma4")},
    "mixtral": small("mixtral"),
    "mixtral-window": small("mixtral", sliding_window=9, num_key_value_heads=4, head_dim=24),
    "mixtral-tied-odd": small(
        "mixtral", tie_word_embeddings=True, num_local_experts=5, num_experts_per_tok=1, intermediate_size=21,
        num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    ),
    "mixtral-llama3": small("mixtral", rope_parameters=LLAMA3),
    "mixtral-linear": small("mixtral", rope_parameters=LINEAR),
    "mixtral-dynamic": small("mixtral", rope_parameters=LINEAR | {"rope_type": "dynamic"}, head_dim=16),
    "deepseek_v2": small("deepseek_v2"),
    "deepseek_v2-llama3": small("deepseek_v2", rope_parameters=LLAMA3 | {"original_max_position_embeddings": 32}),
    "deepseek_v2-lite": small("deepseek_v2", q_lora_rank=None, first_k_dense_replace=0, rope_parameters=DEEPSEEK_YARN),
    "deepseek_v2-groups": small(
        "deepseek_v2", topk_method="group_limited_greedy", n_group=4, topk_group=2, n_routed_experts=12,
        num_experts_per_tok=4, mlp_bias=True, attention_bias=True, routed_scaling_factor=16.0,
    ),
    "deepseek_v2-no-shared": small("deepseek_v2", n_shared_experts=0),
    "kimi_k25": kimi_k25(),
    "kimi_k25-tied": kimi_k25(tie_word_embeddings=True, n_group=4, topk_group=2, n_routed_experts=12),
    "qwen2_moe": small("qwen2_moe"),
    "qwen2_moe-dense": small(
        "qwen2_moe", mlp_only_layers=[1], norm_topk_prob=True, qkv_bias=False, tie_word_embeddings=True, head_dim=32
    ),
    "qwen2_moe-window": small(
        "qwen2_moe", use_sliding_window=True, sliding_window=7, max_window_layers=2, decoder_sparse_step=2
    ),
    "qwen3_moe-window": tiny.qwen3_moe(use_sliding_window=True, sliding_window=10),
    "olmoe": small("olmoe"),
    "olmoe-clip": small("olmoe", clip_qkv=0.7, norm_topk_prob=True, num_key_value_heads=4, attention_bias=True),
    "granitemoe": small("granitemoe"),
    "granitemoe-tied": small("granitemoe", tie_word_embeddings=True, attention_bias=True, num_local_experts=7),
    "granitemoe-usual-scale": small("granitemoe", attention_multiplier=None),
    "granitemoeshared": small("granitemoeshared"),
    "granitemoeshared-none": small("granitemoeshared", shared_intermediate_size=0, intermediate_size=19),
    "lfm2_moe": small("lfm2_moe"),
    "lfm2_moe-bias": small(
        "lfm2_moe", conv_bias=True, conv_L_cache=4, use_expert_bias=False, norm_topk_prob=False, num_dense_layers=0,
        layer_types=["full_attention", "conv", "conv", "full_attention"],
    ),
    "lfm2_moe-untied": small("lfm2_moe", tie_word_embeddings=False, routed_scaling_factor=2.0, conv_L_cache=2),
    "lfm2_moe-kernel-1": small("lfm2_moe", conv_L_cache=1, conv_bias=True),
    "gpt_oss": small("gpt_oss"),
    "gpt_oss-other": small(
        "gpt_oss", layer_types=["full_attention", "sliding_attention", "sliding_attention"], sliding_window=5,
        attention_bias=False, swiglu_limit=0.5, num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
    "ernie4_5_moe": small("ernie4_5_moe"),
    "ernie4_5_moe-linear": small("ernie4_5_moe", rope_parameters=LINEAR),
    "ernie4_5_moe-bias": small(
        "ernie4_5_moe", use_bias=True, num_hidden_layers=5, moe_layer_start_index=1, moe_layer_end_index=3,
        moe_layer_interval=2, moe_num_shared_experts=0, tie_word_embeddings=False,
    ),
    "ernie4_5_moe-least-sum": small("ernie4_5_moe", moe_norm_min=0.7, moe_num_shared_experts=1),
    "glm4_moe": small("glm4_moe"),
    "glm4_moe-llama3": small("glm4_moe", rope_parameters=LLAMA3 | {"partial_rotary_factor": 0.5}),
    "glm4_moe-norm": small(
        "glm4_moe", use_qk_norm=True, attention_bias=False, n_group=2, topk_group=1, first_k_dense_replace=2,
        partial_rotary_factor=0.25, tie_word_embeddings=True,
    ),
    "glm4_moe_lite": small("glm4_moe_lite"),
    "glm4_moe_lite-groups": small(
        "glm4_moe_lite", q_lora_rank=None, n_group=2, topk_group=1, norm_topk_prob=False, attention_bias=True,
        mlp_layer_types=["dense", "sparse", "dense"], rope_interleave=False,
    ),
    "glm4v_moe": glm4v_moe(),
    "glm4v_moe-plain": glm4v_moe(attention_bias=False, tie_word_embeddings=True, first_k_dense_replace=0),
    "dots1": small("dots1"),
    "dots1-window": small(
        "dots1", sliding_window=8, max_window_layers=1, norm_topk_prob=False, attention_bias=True,
        n_group=2, topk_group=2, first_k_dense_replace=0,
    ),
    "phimoe": small("phimoe"),
    "phimoe-plain": small(
        "phimoe", attention_bias=False, lm_head_bias=False, router_jitter_noise=0.01, sliding_window=11,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4}, num_key_value_heads=4,
    ),
}  # fmt: skip

# Sizes that blocks of 64 divide, where a family's own differ from those that all have.
WIDE: dict[str, dict[str, Any]] = tiny_hybrids.WIDE | {
    "deepseek_v3": {"moe_intermediate_size": 64, "q_lora_rank": 64, "v_head_dim": 16},
    "kimi_k25": {"moe_intermediate_size": 64, "q_lora_rank": 64, "v_head_dim": 16},
    "deepseek_v2": {"moe_intermediate_size": 64, "q_lora_rank": 64},
    "qwen2_moe": {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "qwen3_moe": {"moe_intermediate_size": 64},
    "granitemoeshared": {"shared_intermediate_size": 64},
    "lfm2_moe": {"moe_intermediate_size": 64},
    "ernie4_5_moe": {"moe_intermediate_size": 64},
    "glm4_moe": {"moe_intermediate_size": 64},
    "glm4_moe_lite": {"moe_intermediate_size": 64, "q_lora_rank": 64},
    "glm4v_moe": {"moe_intermediate_size": 64},
    "dots1": {"moe_intermediate_size": 64},
    "phimoe": {"head_dim": 16, "router_jitter_noise": 0.01},  # closer to none, fewer weights jump with a rounding
}


def quantizable(family: str, **changes: Any) -> PreTrainedConfig:
    """A small configuration whose matrices can all be quantized in blocks of 64."""
    values = {"hidden_size": 128, "intermediate_size": 64} | WIDE.get(family, {})
    return MAKERS[family](**(values | changes))
