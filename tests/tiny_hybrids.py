"""Small configurations of the families whose layers differ: recurrent ones, windows, blocks of other forms."""

from typing import Any

from transformers import (
    AfmoeConfig,
    BailingHybridConfig,
    Cohere2MoeConfig,
    Gemma4Config,
    Gemma4TextConfig,
    GraniteMoeHybridConfig,
    GraniteMoeSWAConfig,
    KimiLinearConfig,
    LagunaConfig,
    MellumConfig,
    NemotronHConfig,
    PreTrainedConfig,
    Qwen3_5MoeConfig,
    Qwen3_5MoeTextConfig,
    Qwen3NextConfig,
)

EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 3}
WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]
ROPES = {
    "full_attention": {"rope_type": "default", "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
# 16 of the 64 frequencies of a head slow down, and those of short waves do not
YARN = {
    "rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
    "beta_slow": 1.0,
}  # fmt: skip
DELTA_NET = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 24,
    "head_dim": 32, "shared_expert_intermediate_size": 48, "num_hidden_layers": 4,
}  # fmt: skip
GRANITE = {
    "embedding_multiplier": 6.0, "residual_multiplier": 0.22, "logits_scaling": 4.0, "attention_multiplier": 0.1,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_expand": 2}
RECURRENT_AND_FULL = ["linear_attention", "full_attention", "linear_attention"]
GEMMA = {
    "num_experts": 8, "top_k_experts": 3, "moe_intermediate_size": 32, "enable_moe_block": True, "head_dim": 16,
    "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True, "hidden_size_per_layer_input": 0,
    "layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4, "sliding_window": 9,
    "final_logit_softcapping": 30.0, "tie_word_embeddings": True,
}  # fmt: skip
NEMOTRON = {
    "layers_block_type": ["linear_attention", "moe", "full_attention", "moe", "mlp"], "head_dim": 16,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 16, "n_routed_experts": 8,
    "num_experts_per_tok": 3, "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 48,
    "routed_scaling_factor": 2.5, "num_hidden_layers": 5,
}  # fmt: skip

# of latent attention among delta nets
LATENT = {
    "kv_lora_rank": 32, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16, "num_key_value_heads": 4,
}  # fmt: skip

BASES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "mellum": (
        MellumConfig, EXPERTS | {"head_dim": 16, "layer_types": WINDOWS, "sliding_window": 9, "rope_parameters": ROPES},
    ),
    "qwen3_5_moe_text": (Qwen3_5MoeTextConfig, EXPERTS | DELTA_NET),
    "qwen3_next": (Qwen3NextConfig, EXPERTS | DELTA_NET),
    "granitemoehybrid": (
        GraniteMoeHybridConfig,
        LOCAL | GRANITE | MAMBA | {"shared_intermediate_size": 48, "position_embedding_type": "nope",
                                   "layer_types": RECURRENT_AND_FULL},
    ),
    "nemotron_h": (NemotronHConfig, NEMOTRON),
    "gemma4_text": (Gemma4TextConfig, GEMMA),
    "cohere2_moe": (
        Cohere2MoeConfig,
        {"num_experts": 8, "num_experts_per_tok": 3, "head_dim": 16, "sliding_window": 9, "num_shared_experts": 2,
         "num_hidden_layers": 5, "first_k_dense_replace": 1, "prefix_dense_intermediate_size": 64},
    ),
    "laguna": (
        LagunaConfig,
        EXPERTS | {"head_dim": 16, "shared_expert_intermediate_size": 48, "layer_types": WINDOWS, "sliding_window": 9,
                   "num_attention_heads_per_layer": [4, 6, 2], "moe_routed_scaling_factor": 2.0},
    ),
    "granitemoe_swa": (
        GraniteMoeSWAConfig,
        LOCAL | GRANITE | {"sliding_window": 9, "num_hidden_layers": 5, "layer_rope_theta": [1e4, 0, 5e4, 1e4, 0],
                           "shared_intermediate_size": 48},
    ),
    "kimi_linear": (
        KimiLinearConfig,
        EXPERTS | LATENT | {"num_hidden_layers": 5, "linear_head_dim": 16, "linear_num_heads": 2},
    ),
    "bailing_hybrid": (
        BailingHybridConfig,
        EXPERTS | LATENT | {"num_hidden_layers": 4, "layer_group_size": 2, "head_dim": 16, "q_lora_rank": 48,
                            "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1},
    ),
    "afmoe": (
        AfmoeConfig,
        EXPERTS | {"head_dim": 16, "num_hidden_layers": 4, "global_attn_every_n_layers": 2, "sliding_window": 9,
                   "mup_enabled": True, "route_scale": 1.7},
    ),
}  # fmt: skip

WITHOUT_FUSED = ("gemma4", "gemma4_text")  # onnxruntime has no experts with GeGLU

# Of each family's shapes, beside the base: what differs from it.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mellum-yarn": (
        "mellum",
        {"rope_parameters": ROPES | {"full_attention": YARN}, "mlp_layer_types": ["sparse", "dense", "sparse"],
         "attention_bias": True, "norm_topk_prob": False, "tie_word_embeddings": True},
    ),
    "mellum-no-window": ("mellum", {"layer_types": None, "num_key_value_heads": 4}),
    "qwen3_5_moe_text-one-head": (
        "qwen3_5_moe_text",
        {"linear_num_key_heads": 1, "linear_num_value_heads": 3, "linear_conv_kernel_dim": 2, "num_key_value_heads": 1,
         "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
         "tie_word_embeddings": True, "attention_bias": True},
    ),
    "qwen3_next-raw-weights": (
        "qwen3_next",
        {"norm_topk_prob": False, "mlp_only_layers": [1], "linear_num_key_heads": 4, "linear_conv_kernel_dim": 3},
    ),
    "granitemoehybrid-groups": (
        "granitemoehybrid",
        {"mamba_n_groups": 2, "mamba_d_conv": 3, "mamba_conv_bias": False, "mamba_proj_bias": True,
         "tie_word_embeddings": True, "attention_bias": True, "position_embedding_type": "rope"},
    ),
    "granitemoehybrid-limits": (
        "granitemoehybrid",
        {"num_hidden_layers": 4, "layer_types": [*RECURRENT_AND_FULL, "linear_attention"],
         "time_step_limit": [0.5, 0.9]},
    ),
    "nemotron_h-latent": (
        "nemotron_h", {"moe_latent_size": 32, "n_group": 2, "topk_group": 1, "use_conv_bias": False, "conv_kernel": 3},
    ),
    "nemotron_h-experts-first": (
        "nemotron_h",
        {"layers_block_type": ["moe", "full_attention", "linear_attention", "mlp", "moe"], "norm_topk_prob": False,
         "tie_word_embeddings": True, "n_groups": 4, "use_bias": True, "n_shared_experts": 2},
    ),
    "gemma4_text-own-values": (
        "gemma4_text",
        {"attention_k_eq_v": False, "final_logit_softcapping": None, "num_key_value_heads": 4, "attention_bias": True,
         "layer_types": None, "num_hidden_layers": 7},
    ),
    "cohere2_moe-sigmoid": (
        "cohere2_moe",
        {"expert_selection_fn": "sigmoid", "rms_norm_eps": 1e-6, "num_shared_experts": 1,
         "shared_expert_combination_strategy": "sum", "tie_word_embeddings": True, "logit_scale": 0.25},
    ),
    "cohere2_moe-no-dense": (
        "cohere2_moe",
        {"first_k_dense_replace": 0, "num_shared_experts": 0, "sliding_window_pattern": 2, "attention_bias": True},
    ),
    "laguna-elements": (
        "laguna",
        {"gating": "per-element", "attention_bias": True, "num_attention_heads_per_layer": None,
         "moe_router_logit_softcapping": 3.0, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    ),
    "granitemoe_swa-usual": (
        "granitemoe_swa", {"layer_rope_theta": None, "attention_bias": True, "tie_word_embeddings": True},
    ),
    "kimi_linear-low-rank-queries": (
        "kimi_linear",
        {"q_lora_rank": 48, "attention_bias": True, "n_group": 2, "topk_group": 1, "tie_word_embeddings": True,
         "norm_topk_prob": False, "n_shared_experts": 2, "num_hidden_layers": 4, "linear_conv_kernel_dim": 3,
         "linear_num_heads": 3, "linear_head_dim": 24, "mlp_layer_types": ["sparse", "dense"] * 2,
         "layer_types": ["full_attention", "linear_attention"] * 2},
    ),
    "bailing_hybrid-softplus": (
        "bailing_hybrid",
        {"kda_safe_gate": False, "q_lora_rank": None, "attention_bias": True, "tie_word_embeddings": True, "n_group": 1,
         "num_hidden_layers": 5, "layer_group_size": 3, "short_conv_kernel_size": 2, "n_shared_experts": 2,
         "v_head_dim": 12, "first_k_dense_replace": 0},
    ),
    "bailing_hybrid-yarn": (
        "bailing_hybrid",
        {"kda_lower_bound": -2.0, "norm_topk_prob": False,
         "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.8},
         "layer_types": ["full_attention", *["linear_attention"] * 3]},
    ),
    "afmoe-plain": (
        "afmoe",
        {"mup_enabled": False, "num_shared_experts": 1, "num_dense_layers": 2, "num_key_value_heads": 4,
         "attention_bias": True},
    ),
}  # fmt: skip

DELTA_NET_WIDE = {
    "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "linear_value_head_dim": 16,
    "num_hidden_layers": 3, "layer_types": RECURRENT_AND_FULL,
}  # fmt: skip
GEMMA_WIDE = {
    "moe_intermediate_size": 64, "num_hidden_layers": 3, "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
}  # fmt: skip
# Sizes that blocks of 64 divide, where a family's own differ from those that all have.
WIDE: dict[str, dict[str, Any]] = {
    **{name: {"moe_intermediate_size": 64} for name in ("mellum", "afmoe")},
    **dict.fromkeys(("gemma4_text", "gemma4"), GEMMA_WIDE),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_moe", "qwen3_next"), DELTA_NET_WIDE),
    "granitemoehybrid": {"shared_intermediate_size": 64},
    "nemotron_h": {"moe_intermediate_size": 64, "moe_shared_expert_intermediate_size": 64},
    "laguna": {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "granitemoe_swa": {"shared_intermediate_size": 64},
    "kimi_linear": {"moe_intermediate_size": 64, "linear_head_dim": 64},
    "bailing_hybrid": {"moe_intermediate_size": 64, "head_dim": 64, "q_lora_rank": 64},
}


def qwen3_5_moe(text: PreTrainedConfig) -> PreTrainedConfig:
    """That text model with a vision tower that nobody looks through."""
    vision = {
        "depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "intermediate_size": 48,
        "out_hidden_size": text.hidden_size, "num_position_embeddings": 16,
    }  # fmt: skip
    return Qwen3_5MoeConfig(
        text_config=text.to_dict(), vision_config=vision, image_token_id=2, video_token_id=3, vision_start_token_id=4,
        vision_end_token_id=5, bos_token_id=0, eos_token_id=1, tie_word_embeddings=text.tie_word_embeddings,
    )  # fmt: skip


def gemma4(text: PreTrainedConfig) -> PreTrainedConfig:
    """That text model with a vision tower that nobody looks through, and nothing that hears."""
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4,
    }  # fmt: skip
    return Gemma4Config(
        text_config=text.to_dict() | {"pad_token_id": 0}, vision_config=vision, audio_config=None, bos_token_id=0,
        eos_token_id=1, tie_word_embeddings=text.tie_word_embeddings,
    )  # fmt: skip
