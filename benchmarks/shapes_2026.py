"""config.json of the mixtures that people run on small machines in 2026, as their makers publish them.

Of each, what makes it a few layers long that hold every kind of layer it has: routed experts among the first three
layers have more bits in the default scheme, those of the fourth do not.
"""

from dataclasses import dataclass
from typing import Any

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
SILU = {"hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1}
DEFAULT_ROPES = {
    FULL: {"rope_type": "default", "rope_theta": 500000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
}


@dataclass(frozen=True)
class Published:
    """A model: its config.json, what cuts it to a few layers, and parameters in all that its makers tell, in billions.

    `within` is the text model's section of the config, if it has one.
    """

    name: str
    config: dict[str, Any]
    cut: dict[str, Any]
    billions: float
    within: str = ""

    def short(self) -> dict[str, Any]:
        """The config of the few layers."""
        if self.within:
            return self.config | {self.within: self.config[self.within] | self.cut}
        return self.config | self.cut


def _every(interval: int, layers: int, kind: str, other: str, first: int | None = None) -> list[str]:
    """Each `interval`-th layer of one kind, from layer `first` on; the last of each run unless that is given."""
    start = interval - 1 if first is None else first
    return [kind if i % interval == start else other for i in range(layers)]


QWEN36 = {
    "model_type": "qwen3_5_moe_text", "hidden_size": 2048, "num_hidden_layers": 40, "vocab_size": 248320,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "num_experts": 256, "num_experts_per_tok": 8,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "layer_types": _every(4, 40, FULL, LINEAR), "max_position_embeddings": 262144, "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
} | SILU  # fmt: skip
QWEN3_CODER_NEXT = QWEN36 | {
    "model_type": "qwen3_next", "num_hidden_layers": 48, "vocab_size": 151936, "num_experts": 512,
    "num_experts_per_tok": 10, "layer_types": _every(4, 48, FULL, LINEAR), "intermediate_size": 5120,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
GEMMA4 = {
    "model_type": "gemma4_text", "hidden_size": 2816, "intermediate_size": 2112, "num_hidden_layers": 30,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512,
    "num_global_key_value_heads": 2, "attention_k_eq_v": True, "num_experts": 128, "top_k_experts": 8,
    "moe_intermediate_size": 704, "enable_moe_block": True, "hidden_size_per_layer_input": 0,
    "layer_types": _every(6, 30, FULL, SLIDING), "sliding_window": 1024, "final_logit_softcapping": 30.0,
    "hidden_activation": "gelu_pytorch_tanh", "vocab_size": 262144, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 262144, "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip
GPT_OSS = SILU | {
    "model_type": "gpt_oss", "attention_bias": True, "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880,
    "layer_types": _every(2, 24, SLIDING, FULL, 0), "max_position_embeddings": 131072, "num_attention_heads": 64,
    "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32,
    "rms_norm_eps": 1e-5, "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 201088,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
                     "beta_slow": 1.0, "truncate": False},
    "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
LFM2_8B = {
    "model_type": "lfm2_moe", "conv_L_cache": 3, "conv_bias": False, "hidden_size": 2048, "intermediate_size": 7168,
    "layer_types": [FULL if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)],
    "max_position_embeddings": 128000, "moe_intermediate_size": 1792, "norm_eps": 1e-5, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
    "num_hidden_layers": 24, "num_key_value_heads": 8, "rope_theta": 1e6, "routed_scaling_factor": 1.0,
    "use_expert_bias": True, "use_pos_enc": True, "vocab_size": 65536, "tie_word_embeddings": True,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
LFM2_24B = LFM2_8B | {
    "num_hidden_layers": 40, "num_experts": 64, "moe_intermediate_size": 1536, "intermediate_size": 11776,
    "layer_types": _every(4, 40, FULL, "conv", 2),
}  # fmt: skip
QWEN3_30B = SILU | {
    "model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
    "head_dim": 128, "vocab_size": 151936, "intermediate_size": 6144, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "rms_norm_eps": 1e-6, "rope_theta": 1e7, "max_position_embeddings": 262144,
}  # fmt: skip
GLM_47_FLASH = SILU | {
    "model_type": "glm4_moe_lite", "attention_bias": False, "first_k_dense_replace": 1, "hidden_size": 2048,
    "intermediate_size": 10240, "kv_lora_rank": 512, "max_position_embeddings": 202752, "moe_intermediate_size": 1536,
    "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 20,
    "num_experts_per_tok": 4, "num_hidden_layers": 47, "num_key_value_heads": 20, "q_lora_rank": 768,
    "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "topk_group": 1,
    "routed_scaling_factor": 1.8, "topk_method": "noaux_tc", "v_head_dim": 256, "vocab_size": 154880,
}  # fmt: skip
NEMOTRON_NANO = {
    "model_type": "nemotron_h", "hidden_size": 2688, "intermediate_size": 1856, "vocab_size": 131072,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "num_hidden_layers": 52,
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "mamba_num_heads": 64, "mamba_head_dim": 64,
    "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4, "n_routed_experts": 128, "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712, "n_shared_experts": 1,
    "routed_scaling_factor": 2.5, "norm_topk_prob": True, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu",
    "layer_norm_epsilon": 1e-5, "max_position_embeddings": 262144, "tie_word_embeddings": False, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip
GRANITE_TINY = SILU | {
    "model_type": "granitemoehybrid", "hidden_size": 1536, "num_hidden_layers": 40, "vocab_size": 100352,
    "num_local_experts": 64, "num_experts_per_tok": 6, "intermediate_size": 512, "shared_intermediate_size": 1024,
    "num_attention_heads": 12, "num_key_value_heads": 4, "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_n_groups": 1,
    "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_expand": 2, "embedding_multiplier": 12.0, "logits_scaling": 6.0,
    "residual_multiplier": 0.22, "attention_multiplier": 0.0078125, "position_embedding_type": "nope",
    "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)], "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072, "tie_word_embeddings": True, "attention_bias": False,
}  # fmt: skip
GRANITE_SMALL = GRANITE_TINY | {
    "hidden_size": 4096, "num_local_experts": 72, "num_experts_per_tok": 10, "intermediate_size": 768,
    "shared_intermediate_size": 1536, "num_attention_heads": 32, "num_key_value_heads": 8, "mamba_n_heads": 128,
    "logits_scaling": 16.0,
}  # fmt: skip
MELLUM2 = SILU | {
    "model_type": "mellum", "hidden_size": 2304, "num_hidden_layers": 28, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": True,
    "moe_intermediate_size": 896, "intermediate_size": 7168, "vocab_size": 98304, "sliding_window": 1024,
    "layer_types": _every(4, 28, FULL, SLIDING), "rope_parameters": DEFAULT_ROPES, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131072,
}  # fmt: skip
NORTH_MINI_CODE = SILU | {
    "model_type": "cohere2_moe", "hidden_size": 2048, "num_hidden_layers": 49, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "intermediate_size": 768,
    "first_k_dense_replace": 1, "prefix_dense_intermediate_size": 3072, "num_shared_experts": 0,
    "expert_selection_fn": "sigmoid", "norm_topk_prob": True, "sliding_window": 4096, "sliding_window_pattern": 4,
    "rms_norm_eps": 1e-5, "rope_theta": 50000.0, "vocab_size": 262144, "logit_scale": 0.25,
    "layer_types": [FULL, *_every(4, 48, FULL, SLIDING)], "max_position_embeddings": 500000,
    "tie_word_embeddings": True,
}  # fmt: skip
LAGUNA_XS = SILU | {
    "model_type": "laguna", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40,
    "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "sliding_window": 512, "vocab_size": 100352,
    "layer_types": _every(4, 40, FULL, SLIDING, 0), "moe_routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6,
    "num_attention_heads_per_layer": [48 if i % 4 == 0 else 64 for i in range(40)], "max_position_embeddings": 131072,
}  # fmt: skip


SPARSE_DENSE = {"mlp_layer_types": ["sparse", "dense", "dense", "sparse"]}  # experts of both sizes, and none twice
DENSE_SPARSE = {"mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}


def _typed(*kinds: str, **more: Any) -> dict[str, Any]:
    return {"num_hidden_layers": len(kinds), "layer_types": list(kinds), **more}


MODELS = (
    Published(
        "Qwen3.6-35B-A3B",
        {"model_type": "qwen3_5_moe", "text_config": QWEN36, "tie_word_embeddings": False},
        _typed(LINEAR, FULL, LINEAR, LINEAR),
        35.0,
        "text_config",
    ),
    Published(
        "gemma-4-26B-A4B",
        {"model_type": "gemma4", "text_config": GEMMA4, "tie_word_embeddings": True},
        _typed(SLIDING, SLIDING, SLIDING, FULL),
        25.2,
        "text_config",
    ),
    Published("gpt-oss-20b", GPT_OSS, _typed(SLIDING, FULL, SLIDING), 20.9),
    Published("LFM2.5-8B-A1B", LFM2_8B, _typed("conv", "conv", FULL, "conv", FULL), 8.3),
    Published("LFM2.5-24B-A2B", LFM2_24B, _typed("conv", "conv", FULL, "conv", FULL), 23.8),
    Published("Qwen3-30B-A3B", QWEN3_30B, {"num_hidden_layers": 4, "mlp_only_layers": [1, 2]}, 30.5),
    Published("GLM-4.7-Flash", GLM_47_FLASH, {"num_hidden_layers": 4, **DENSE_SPARSE}, 29.9),
    Published(
        "Nemotron-3-Nano-30B-A3B",
        NEMOTRON_NANO,
        {"num_hidden_layers": 5, "hybrid_override_pattern": "ME*EM"},
        31.6,
    ),
    Published("granite-4.0-h-tiny", GRANITE_TINY, _typed("mamba", "attention", "mamba", "mamba"), 6.9),
    Published("granite-4.0-h-small", GRANITE_SMALL, _typed("mamba", "attention", "mamba", "mamba"), 32.2),
    Published("Mellum2-12B-A2.5B", MELLUM2, _typed(SLIDING, SLIDING, SLIDING, FULL, **SPARSE_DENSE), 12.2),
    Published(
        "Qwen3-Coder-Next-80B-A3B",
        QWEN3_CODER_NEXT,
        _typed(LINEAR, FULL, LINEAR, FULL, mlp_only_layers=[1, 2]),
        79.7,
    ),
    Published("North-Mini-Code-1.0", NORTH_MINI_CODE, _typed(FULL, SLIDING, SLIDING, FULL, **DENSE_SPARSE), 30.5),
    Published(
        "Laguna-XS.2",
        LAGUNA_XS,
        _typed(FULL, SLIDING, SLIDING, FULL, num_attention_heads_per_layer=[48, 64, 64, 48], **DENSE_SPARSE),
        33.4,
    ),
)
