"""config.json of published models, as far as the keys concern the model, and what each of them is.

The keys that concern training and loading only are those in EXTRA, which stand beside them in one model or another.
"""

from typing import Any, NamedTuple

import published_hybrids as hybrids
from test_export_config import DEEPSEEK_V3, KIMI_K2_THINKING

EXTRA: dict[str, Any] = {
    "architectures": ["X"], "auto_map": {"AutoConfig": "configuration_x.XConfig"}, "torch_dtype": "bfloat16",
    "transformers_version": "4.57.0", "use_cache": True, "router_aux_loss_coef": 0.001, "output_router_logits": False,
    "initializer_range": 0.02, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "pretraining_tp": 1,
}  # fmt: skip
SILU = {"hidden_act": "silu", "tie_word_embeddings": False}
MIXTRAL_8X7B = SILU | {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "num_local_experts": 8, "rms_norm_eps": 1e-05, "rope_theta": 1e6, "sliding_window": None, "vocab_size": 32000,
}  # fmt: skip
MIXTRAL_8X22B = MIXTRAL_8X7B | {
    "hidden_size": 6144, "intermediate_size": 16384, "max_position_embeddings": 65536, "num_attention_heads": 48,
    "num_hidden_layers": 56, "vocab_size": 32768, "router_jitter_noise": 0.0,
}  # fmt: skip
QWEN15_MOE = SILU | {
    "model_type": "qwen2_moe", "decoder_sparse_step": 1, "hidden_size": 2048, "intermediate_size": 5632,
    "max_position_embeddings": 32768, "max_window_layers": 21, "moe_intermediate_size": 1408, "norm_topk_prob": False,
    "num_attention_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_key_value_heads": 16, "rms_norm_eps": 1e-06, "rope_theta": 1e6, "shared_expert_intermediate_size": 5632,
    "sliding_window": 32768, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
QWEN2_57B = QWEN15_MOE | {
    "hidden_size": 3584, "intermediate_size": 18944, "max_window_layers": 28, "moe_intermediate_size": 2560,
    "num_attention_heads": 28, "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "shared_expert_intermediate_size": 20480, "sliding_window": 65536,
}  # fmt: skip
OLMOE = SILU | {
    "model_type": "olmoe", "attention_bias": False, "clip_qkv": None, "hidden_size": 2048, "intermediate_size": 1024,
    "max_position_embeddings": 4096, "norm_topk_prob": False, "num_attention_heads": 16, "num_experts": 64,
    "num_experts_per_tok": 8, "num_hidden_layers": 16, "num_key_value_heads": 16, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 50304,
}  # fmt: skip
GRANITE_1B = {
    "model_type": "granitemoe", "attention_bias": False, "attention_multiplier": 0.015625, "hidden_act": "silu",
    "embedding_multiplier": 12.0, "hidden_size": 1024, "intermediate_size": 512, "logits_scaling": 6.0,
    "max_position_embeddings": 131072, "num_attention_heads": 16, "num_experts_per_tok": 8, "num_hidden_layers": 24,
    "num_key_value_heads": 8, "num_local_experts": 32, "residual_multiplier": 0.22, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1e7, "tie_word_embeddings": True, "vocab_size": 49155,
}  # fmt: skip
GRANITE_3B = GRANITE_1B | {
    "hidden_size": 1536, "num_attention_heads": 24, "num_hidden_layers": 32, "num_local_experts": 40,
}  # fmt: skip
LFM2_ATTENTION = (2, 6, 10, 14, 18, 21)
LFM2_8B = {
    "model_type": "lfm2_moe", "conv_L_cache": 3, "conv_bias": False, "hidden_size": 2048, "intermediate_size": 7168,
    "layer_types": ["full_attention" if i in LFM2_ATTENTION else "conv" for i in range(24)],
    "max_position_embeddings": 128000, "moe_intermediate_size": 1792, "norm_eps": 1e-05, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
    "num_hidden_layers": 24, "num_key_value_heads": 8, "rope_theta": 1000000.0, "routed_scaling_factor": 1.0,
    "use_expert_bias": True, "use_pos_enc": True, "vocab_size": 65536,
}  # fmt: skip
GPT_OSS_20B = SILU | {
    "model_type": "gpt_oss", "attention_bias": True, "experts_per_token": 4, "head_dim": 64, "hidden_size": 2880,
    "initial_context_length": 4096, "intermediate_size": 2880, "layer_types": [
        "full_attention" if i % 2 else "sliding_attention" for i in range(24)
    ],
    "max_position_embeddings": 131072, "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_key_value_heads": 8, "num_local_experts": 32, "rms_norm_eps": 1e-05, "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn", "truncate": False,
    },
    "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 201088,
}  # fmt: skip
GPT_OSS_120B = GPT_OSS_20B | {
    "num_hidden_layers": 36, "num_local_experts": 128,
    "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(36)],
}  # fmt: skip
ERNIE_21B = {
    "model_type": "ernie4_5_moe", "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 12288,
    "max_position_embeddings": 131072, "moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_intermediate_size": 1536,
    "moe_k": 6, "moe_layer_end_index": 27, "moe_layer_interval": 1, "moe_layer_start_index": 1, "moe_num_experts": 64,
    "moe_num_shared_experts": 2, "moe_use_aux_free": True, "num_attention_heads": 20, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 500000.0, "tie_word_embeddings": True, "use_bias": False, "vocab_size": 103424,
}  # fmt: skip
GLM_45_AIR = SILU | {
    "model_type": "glm4_moe", "attention_bias": True, "first_k_dense_replace": 1, "head_dim": 128,
    "hidden_size": 4096, "intermediate_size": 10944, "max_position_embeddings": 131072, "moe_intermediate_size": 1408,
    "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 96,
    "num_experts_per_tok": 8, "num_hidden_layers": 46, "num_key_value_heads": 8, "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000,
    "routed_scaling_factor": 1.0, "topk_group": 1, "use_qk_norm": False, "vocab_size": 151552,
}  # fmt: skip
DOTS_LLM1 = SILU | {
    "model_type": "dots1", "attention_bias": False, "first_k_dense_replace": 1, "hidden_size": 4096,
    "intermediate_size": 10944, "max_position_embeddings": 32768, "max_window_layers": 62,
    "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": None, "n_routed_experts": 128,
    "n_shared_experts": 2, "norm_topk_prob": True, "num_attention_heads": 32, "num_experts_per_tok": 6,
    "num_hidden_layers": 62, "num_key_value_heads": 32, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 10000000, "routed_scaling_factor": 2.5, "scoring_func": "noaux_tc", "sliding_window": None,
    "topk_group": None, "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
# The makers' 64 divisors are not repeated here, only their kind: from 1 on, rising.
PHI_35_MOE = SILU | {
    "model_type": "phimoe", "attention_bias": True, "hidden_dropout": 0.0, "hidden_size": 4096,
    "input_jitter_noise": 0.01, "intermediate_size": 6400, "lm_head_bias": True, "max_position_embeddings": 131072,
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "num_local_experts": 16, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_scaling": {
        "long_factor": [1.0 + i for i in range(64)], "long_mscale": 1.243163121016122,
        "original_max_position_embeddings": 4096, "short_factor": [1.0 + i / 20 for i in range(64)],
        "short_mscale": 1.243163121016122, "type": "longrope",
    },
    "rope_theta": 10000.0, "router_jitter_noise": 0.01, "sliding_window": 131072, "vocab_size": 32064,
}  # fmt: skip
YARN_V2 = {
    "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096, "type": "yarn",
}  # fmt: skip
DEEPSEEK_V2_LITE = SILU | {
    "model_type": "deepseek_v2", "attention_bias": False, "aux_loss_alpha": 0.001, "first_k_dense_replace": 1,
    "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
    "norm_topk_prob": False, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
    "num_key_value_heads": 16, "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06, "rope_scaling": YARN_V2, "rope_theta": 10000, "routed_scaling_factor": 1.0,
    "scoring_func": "softmax", "seq_aux": True, "topk_group": 1, "topk_method": "greedy", "v_head_dim": 128,
    "vocab_size": 102400,
}  # fmt: skip
DEEPSEEK_V2 = DEEPSEEK_V2_LITE | {
    "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_group": 8,
    "n_routed_experts": 160, "num_attention_heads": 128, "num_hidden_layers": 60, "num_key_value_heads": 128,
    "q_lora_rank": 1536, "routed_scaling_factor": 16.0, "topk_group": 3, "topk_method": "group_limited_greedy",
}  # fmt: skip
KIMI_K25 = {
    "model_type": "kimi_k25", "ignore_index": -100, "media_placeholder_token_id": 163605, "pad_token_id": 163839,
    "text_config": EXTRA | KIMI_K2_THINKING | {"rope_scaling": YARN_V2 | {
        "factor": 64.0, "mscale": 1.0, "mscale_all_dim": 1.0,
    }},
    "tie_word_embeddings": False, "use_unified_vision_chunk": True, "vision_config": {"patch_size": 14},
}  # fmt: skip
GLM_47_FLASH = SILU | {
    "model_type": "glm4_moe_lite", "attention_bias": False, "first_k_dense_replace": 1, "hidden_size": 2048,
    "intermediate_size": 10240, "kv_lora_rank": 512, "max_position_embeddings": 202752, "moe_intermediate_size": 1536,
    "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 20,
    "num_experts_per_tok": 4, "num_hidden_layers": 47, "num_key_value_heads": 20, "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 1.0, "q_lora_rank": 768, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000, "routed_scaling_factor": 1.8, "topk_group": 1,
    "topk_method": "noaux_tc", "v_head_dim": 256, "vocab_size": 154880,
}  # fmt: skip
GLM_45V = {
    "model_type": "glm4v_moe", "image_token_id": 151363, "tie_word_embeddings": False,
    "text_config": GLM_45_AIR | {
        "model_type": "glm4v_moe_text", "max_position_embeddings": 65536,
        "rope_scaling": {"mrope_section": [8, 12, 12], "rope_type": "default"}, "rope_theta": 10000.0,
    },
    "vision_config": {"depth": 24, "model_type": "glm4v_moe"},
}  # fmt: skip
KIMI_VL = {
    "model_type": "kimi_vl", "ignore_index": -100, "media_placeholder_token_id": 163605, "text_config": SILU | {
        "model_type": "deepseek_v3", "attention_bias": False, "first_k_dense_replace": 1, "hidden_size": 2048,
        "intermediate_size": 11264, "kv_lora_rank": 512, "max_position_embeddings": 131072,
        "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64,
        "n_shared_experts": 2, "norm_topk_prob": True, "num_attention_heads": 16, "num_experts_per_tok": 6,
        "num_hidden_layers": 27, "num_key_value_heads": 16, "num_nextn_predict_layers": 0, "q_lora_rank": None,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05, "rope_theta": 800000.0,
        "routed_scaling_factor": 2.446, "scoring_func": "sigmoid", "seq_aux": True, "tie_word_embeddings": False,
        "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 163840,
    },
    "vision_config": {"model_type": "moonvit", "patch_size": 14},
}  # fmt: skip


class Published(NamedTuple):
    """A published config.json, how many layers are MoE, experts, experts a token, what scales them, window layers."""

    config: dict[str, Any]
    moe_layers: int
    experts: int
    per_token: int
    scale: float
    windows: int


PUBLISHED = {
    "Mixtral-8x7B-Instruct-v0.1": Published(MIXTRAL_8X7B, 32, 8, 2, 1.0, 0),
    "Mixtral-8x22B": Published(MIXTRAL_8X22B, 56, 8, 2, 1.0, 0),
    "Qwen1.5-MoE-A2.7B": Published(QWEN15_MOE, 24, 60, 4, 1.0, 0),
    "Qwen2-57B-A14B": Published(QWEN2_57B, 28, 64, 8, 1.0, 0),
    "OLMoE-1B-7B-0924": Published(OLMOE, 16, 64, 8, 1.0, 0),
    "Granite-3.1-1B-A400M": Published(GRANITE_1B, 24, 32, 8, 1.0, 0),
    "Granite-3.1-3B-A800M": Published(GRANITE_3B, 32, 40, 8, 1.0, 0),
    "LFM2-8B-A1B": Published(LFM2_8B, 22, 32, 4, 1.0, 0),
    "gpt-oss-20b": Published(GPT_OSS_20B, 24, 32, 4, 1.0, 12),
    "gpt-oss-120b": Published(GPT_OSS_120B, 36, 128, 4, 1.0, 18),
    "ERNIE-4.5-21B-A3B-PT": Published(ERNIE_21B, 27, 64, 6, 1.0, 0),
    "GLM-4.5-Air": Published(GLM_45_AIR, 45, 128, 8, 1.0, 0),
    "dots.llm1": Published(DOTS_LLM1, 61, 128, 6, 2.5, 0),
    "Phi-3.5-MoE": Published(PHI_35_MOE, 32, 16, 2, 1.0, 32),
    "DeepSeek-V2-Lite": Published(DEEPSEEK_V2_LITE, 26, 64, 6, 1.0, 0),
    "DeepSeek-V2": Published(DEEPSEEK_V2, 59, 160, 6, 16.0, 0),
    "DeepSeek-V3.1": Published(DEEPSEEK_V3, 58, 256, 8, 2.5, 0),
    "Kimi-K2.5": Published(KIMI_K25, 60, 384, 8, 2.827, 0),
    "Kimi-VL-A3B": Published(KIMI_VL, 26, 64, 6, 2.446, 0),
    "GLM-4.7-Flash": Published(GLM_47_FLASH, 46, 64, 4, 1.8, 0),
    "GLM-4.5V": Published(GLM_45V, 45, 128, 8, 1.0, 0),
    "Qwen3.6-35B-A3B": Published(hybrids.QWEN36_35B, 40, 256, 8, 1.0, 0),
    "Qwen3-Coder-Next": Published(hybrids.QWEN3_CODER_NEXT, 48, 512, 10, 1.0, 0),
    "Granite-4.0-H-Tiny": Published(hybrids.GRANITE_H_TINY, 40, 64, 6, 1.0, 0),
    "Granite-4.0-H-Small": Published(hybrids.GRANITE_H_SMALL, 40, 72, 10, 1.0, 0),
    "Nemotron-3-Nano": Published(hybrids.NEMOTRON_3_NANO, 23, 128, 6, 2.5, 0),
    "Nemotron-3-Super": Published(hybrids.NEMOTRON_3_SUPER, 40, 512, 22, 5.0, 0),
    "Gemma-4-26B-A4B": Published(hybrids.GEMMA_4_26B, 30, 128, 8, 1.0, 25),
    "Mellum2-12B-A2.5B": Published(hybrids.MELLUM_2, 28, 64, 8, 1.0, 21),
    "North-Mini-Code-1.0": Published(hybrids.NORTH_MINI_CODE, 48, 128, 8, 1.0, 36),
    "Laguna-XS-2.1": Published(hybrids.LAGUNA_XS, 39, 256, 8, 2.5, 30),
    "Trinity-Mini": Published(hybrids.TRINITY_MINI, 30, 128, 8, 2.826, 24),
    "Trinity-Nano": Published(hybrids.TRINITY_NANO, 54, 128, 8, 2.826, 42),
    "Granite-Swash-3B-A600M": Published(hybrids.GRANITE_SWASH, 28, 48, 4, 1.0, 21),
}
