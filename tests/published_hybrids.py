"""config.json of published models whose layers differ, as far as the keys concern the model.

Values that no public copy of the file states are marked; they are the usual ones of the family.
"""

from typing import Any

SILU = {"hidden_act": "silu", "tie_word_embeddings": False}
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def every(interval: int, kind: str, other: str, layers: int, first: int | None = None) -> list[str]:
    """A kind in each `interval`-th layer, the last of so many or the one numbered `first`; else the other."""
    place = interval - 1 if first is None else first
    return [kind if i % interval == place else other for i in range(layers)]


def mamba_layers(*attention: int) -> list[str]:
    """Granite's 40 layers."""
    return ["attention" if i in attention else "mamba" for i in range(40)]


QWEN36_35B = {
    "model_type": "qwen3_5_moe", "image_token_id": 248056, "language_model_only": False, "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_5_moe_text", "attention_bias": False, "attn_output_gate": True, "dtype": "bfloat16",
        "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 2048,
        "layer_types": every(4, FULL, LINEAR, 40), "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32", "max_position_embeddings": 262144, "mlp_only_layers": [],
        "moe_intermediate_size": 512, "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 16, "num_experts": 256, "num_experts_per_tok": 8, "num_hidden_layers": 40,
        "num_key_value_heads": 2, "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-06, "rope_parameters": {
            "mrope_interleaved": True, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
            "rope_theta": 10000000, "rope_type": "default",
        },
        "shared_expert_intermediate_size": 512, "tie_word_embeddings": False, "vocab_size": 248320,
    },
    "vision_config": {"depth": 27, "model_type": "qwen3_5_moe"},
}  # fmt: skip
QWEN3_CODER_NEXT = SILU | {
    "model_type": "qwen3_next", "attention_bias": False, "decoder_sparse_step": 1, "full_attention_interval": 4,
    "head_dim": 256, "hidden_size": 2048, "intermediate_size": 5120, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "linear_value_head_dim": 128, "max_position_embeddings": 262144, "mlp_only_layers": [],
    "moe_intermediate_size": 512, "norm_topk_prob": True, "num_attention_heads": 16, "num_experts": 512,
    "num_experts_per_tok": 10, "num_hidden_layers": 48, "num_key_value_heads": 2, "partial_rotary_factor": 0.25,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000, "shared_expert_intermediate_size": 512,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
# the multipliers are those of its GGUF
GRANITE_H_TINY = {
    "model_type": "granitemoehybrid", "attention_bias": False, "attention_multiplier": 0.0078125,
    "embedding_multiplier": 12, "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 512,
    "layer_types": mamba_layers(5, 15, 25, 35), "logits_scaling": 6, "mamba_chunk_size": 256, "mamba_conv_bias": True,
    "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2, "mamba_n_groups": 1,
    "mamba_n_heads": 48, "mamba_proj_bias": False, "max_position_embeddings": 131072,
    "normalization_function": "rmsnorm", "num_attention_heads": 12, "num_experts_per_tok": 6, "num_hidden_layers": 40,
    "num_key_value_heads": 4, "num_local_experts": 64, "position_embedding_type": "nope", "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000, "shared_intermediate_size": 1024,
    "tie_word_embeddings": True, "vocab_size": 100352,
}  # fmt: skip
# logits_scaling is not known
GRANITE_H_SMALL = GRANITE_H_TINY | {
    "hidden_size": 4096, "intermediate_size": 768, "mamba_n_heads": 128, "num_attention_heads": 32,
    "num_experts_per_tok": 10, "num_key_value_heads": 8, "num_local_experts": 72, "shared_intermediate_size": 1536,
}  # fmt: skip
NEMOTRON_3_NANO = {
    "model_type": "nemotron_h", "attention_bias": False, "chunk_size": 128, "conv_kernel": 4, "expand": 2,
    "head_dim": 128, "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "intermediate_size": 1856,
    "layer_norm_epsilon": 1e-05, "mamba_head_dim": 64, "mamba_hidden_act": "silu", "mamba_num_heads": 64,
    "mamba_proj_bias": False, "mamba_ssm_cache_dtype": "float32", "max_position_embeddings": 262144,
    "mlp_bias": False, "mlp_hidden_act": "relu2", "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712, "n_group": 1, "n_groups": 8, "n_routed_experts": 128,
    "n_shared_experts": 1, "norm_eps": 1e-05, "norm_topk_prob": True, "num_attention_heads": 32,
    "num_experts_per_tok": 6, "num_hidden_layers": 52, "num_key_value_heads": 2, "num_logits_to_keep": 1,
    "partial_rotary_factor": 1.0, "rescale_prenorm_residual": True, "residual_in_fp32": False, "rope_theta": 10000,
    "routed_scaling_factor": 2.5, "sliding_window": None, "ssm_state_size": 128, "tie_word_embeddings": False,
    "time_step_floor": 0.0001, "time_step_limit": [0.0, float("inf")], "time_step_max": 0.1, "time_step_min": 0.001,
    "topk_group": 1, "use_bias": False, "use_conv_bias": True, "use_mamba_kernels": True, "vocab_size": 131072,
}  # fmt: skip
NEMOTRON_3_SUPER = {k: v for k, v in NEMOTRON_3_NANO.items() if k != "time_step_limit"} | {
    "hidden_size": 4096, "intermediate_size": 2688, "mamba_num_heads": 128, "moe_intermediate_size": 2688,
    "hybrid_override_pattern":
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
    "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376, "moe_shared_expert_overlap": False,
    "mtp_hybrid_override_pattern": "*E", "n_routed_experts": 512, "num_experts_per_tok": 22, "num_hidden_layers": 88,
    "num_nextn_predict_layers": 1, "routed_scaling_factor": 5.0,
}  # fmt: skip
GEMMA_4_26B = {
    "model_type": "gemma4", "audio_config": None, "image_token_id": 258880, "tie_word_embeddings": True,
    "text_config": {
        "model_type": "gemma4_text", "attention_bias": False, "attention_k_eq_v": True, "enable_moe_block": True,
        "expert_intermediate_size": None, "final_logit_softcapping": 30.0, "global_head_dim": 512, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2816, "hidden_size_per_layer_input": 0,
        "intermediate_size": 2112, "layer_types": every(6, FULL, SLIDING, 30), "max_position_embeddings": 262144,
        "moe_intermediate_size": 704, "num_attention_heads": 16, "num_experts": 128, "num_global_key_value_heads": 2,
        "num_hidden_layers": 30, "num_key_value_heads": 8, "num_kv_shared_layers": 0, "rms_norm_eps": 1e-06,
        "rope_parameters": {
            FULL: {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
            SLIDING: {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "sliding_window": 1024, "tie_word_embeddings": True, "top_k_experts": 8,
        "use_bidirectional_attention": "vision", "use_double_wide_mlp": False, "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144,
    },
    "vision_config": {"hidden_size": 1152, "model_type": "gemma4_vision"},
}  # fmt: skip
MELLUM_2 = SILU | {
    "model_type": "mellum", "attention_bias": False, "head_dim": 128, "hidden_size": 2304, "intermediate_size": 7168,
    "layer_types": every(4, FULL, SLIDING, 28), "max_position_embeddings": 131072, "max_window_layers": 0,
    "mlp_layer_types": ["sparse"] * 28, "moe_intermediate_size": 896, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_parameters": {
        FULL: {
            "attention_factor": 1.2772588722239782, "beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0,
            "original_max_position_embeddings": 8192, "rope_theta": 500000.0, "rope_type": "yarn",
        },
        SLIDING: {"rope_theta": 500000.0, "rope_type": "default"},
    },
    "sliding_window": 1024, "use_sliding_window": True, "vocab_size": 98304,
}  # fmt: skip
NORTH_MINI_CODE = {  # logit_scale is not known
    "model_type": "cohere2_moe", "attention_bias": False, "expert_selection_fn": "sigmoid", "first_k_dense_replace": 1,
    "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 768, "layer_norm_eps": 1e-05,
    "layer_types": every(4, FULL, SLIDING, 49, first=0), "max_position_embeddings": 500000, "norm_topk_prob": False,
    "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 49,
    "num_key_value_heads": 4, "num_shared_experts": 0, "prefix_dense_intermediate_size": 3072,
    "prefix_dense_sliding_window_pattern": 1, "rms_norm_eps": 1e-06, "rope_theta": 50000, "sliding_window": 4096,
    "use_parallel_block": True, "use_qk_norm": False, "vocab_size": 262144,
}  # fmt: skip
LAGUNA_XS = SILU | {  # the thetas are not known
    "model_type": "laguna", "attention_bias": False, "gating": "per-head", "head_dim": 128, "hidden_size": 2048,
    "intermediate_size": 8192, "layer_types": every(4, FULL, SLIDING, 40, first=0), "max_position_embeddings": 262144,
    "mlp_layer_types": ["dense"] + ["sparse"] * 39, "mlp_only_layers": [0], "moe_intermediate_size": 512,
    "moe_routed_scaling_factor": 2.5, "moe_router_logit_softcapping": 0.0, "norm_topk_prob": True,
    "num_attention_heads": 48, "num_attention_heads_per_layer": [64 if i % 4 else 48 for i in range(40)],
    "num_experts": 256, "num_experts_per_tok": 8, "num_hidden_layers": 40, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06, "rope_parameters": {
        FULL: {
            "factor": 32.0, "original_max_position_embeddings": 8192, "partial_rotary_factor": 0.5,
            "rope_theta": 500000.0, "rope_type": "yarn",
        },
        SLIDING: {"partial_rotary_factor": 1.0, "rope_theta": 10000.0, "rope_type": "default"},
    },
    "shared_expert_intermediate_size": 512, "sliding_window": 512, "vocab_size": 100352,
}  # fmt: skip
TRINITY_MINI = SILU | {
    "model_type": "afmoe", "global_attn_every_n_layers": 4, "head_dim": 128, "hidden_size": 2048,
    "intermediate_size": 6144, "layer_types": every(4, FULL, SLIDING, 32), "max_position_embeddings": 131072,
    "moe_intermediate_size": 1024, "mup_enabled": True, "n_group": 1, "num_attention_heads": 32,
    "num_dense_layers": 2, "num_expert_groups": 1, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 32, "num_key_value_heads": 4, "num_limited_groups": 1, "num_shared_experts": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000, "route_norm": True, "route_scale": 2.826,
    "score_func": "sigmoid", "sliding_window": 2048, "topk_group": 1, "use_grouped_mm": True, "vocab_size": 200192,
}  # fmt: skip
TRINITY_NANO = {k: v for k, v in TRINITY_MINI.items() if k != "layer_types"} | {
    "hidden_size": 1024, "intermediate_size": 3072, "moe_intermediate_size": 256, "num_attention_heads": 8,
    "num_hidden_layers": 56, "num_key_value_heads": 2,
}  # fmt: skip
GRANITE_SWASH: dict[str, Any] = {  # the epsilon and the theta are not known
    "model_type": "granitemoe_swa", "attention_bias": False, "attention_multiplier": 0.015625,
    "embedding_multiplier": 12, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 512,
    "logits_scaling": 5, "max_position_embeddings": 8192, "num_attention_heads": 20, "num_experts_per_tok": 4,
    "num_hidden_layers": 28, "num_key_value_heads": 4, "num_local_experts": 48, "residual_multiplier": 0.26,
    "rms_norm_eps": 1e-05, "rope_theta": 10000, "shared_intermediate_size": 1280, "sliding_window": 128,
    "tie_word_embeddings": True, "vocab_size": 100352,
}  # fmt: skip
