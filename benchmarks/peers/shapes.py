"""The models that are compared: real configurations, with layers left out until all engines' copies fit a small disk.

What the layers that stay hold is what the published model's hold; vocabularies are whole.
"""

from dataclasses import dataclass
from typing import Any, Literal

Target = Literal["narrow", "wide"]


@dataclass(frozen=True)
class PeerShape:
    """One model. `config` is its config.json, cut to fewer layers.

    `mixing` scales what attention adds to the residual stream: the more of it, the more of their experts two tokens in
    a row share. It is set so that about 0.45 are shared, as in trained models.
    """

    name: str
    title: str  # for tables
    published_layers: int
    mixing: float
    target: Target  # which of the targets it is held to
    config: dict[str, Any]

    @property
    def layers(self) -> int:
        """Those that stay."""
        layers: int = self.config["num_hidden_layers"]
        return layers

    @property
    def experts(self) -> int:
        """Routed experts in a layer."""
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        [count] = [self.config[name] for name in names if name in self.config]
        return int(count)

    @property
    def chosen(self) -> int:
        """Experts that a token uses in a layer."""
        return int(self.config["num_experts_per_tok"])


_ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, "dtype": "bfloat16"}
_GRANITE = {
    "model_type": "granitemoe", "architectures": ["GraniteMoeForCausalLM"], "attention_bias": False,
    "attention_multiplier": 0.015625, "hidden_act": "silu", "embedding_multiplier": 12.0, "hidden_size": 1024,
    "intermediate_size": 512, "logits_scaling": 6.0, "max_position_embeddings": 131072, "num_attention_heads": 16,
    "num_experts_per_tok": 8, "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32,
    "residual_multiplier": 0.22, "rms_norm_eps": 1e-06, "rope_theta": 1e7, "tie_word_embeddings": True,
    "position_embedding_type": "rope", "vocab_size": 49155,
}  # fmt: skip
_OLMOE = {
    "model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "attention_bias": False, "clip_qkv": None,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 1024, "max_position_embeddings": 4096,
    "norm_topk_prob": False, "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
    "num_hidden_layers": 4, "num_key_value_heads": 16, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "vocab_size": 50304,
}  # fmt: skip
_QWEN3 = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False,
    "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
    "max_position_embeddings": 40960, "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 8,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1e6, "tie_word_embeddings": False,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
# Its queries have a low rank, like its large kin's: llama.cpp takes them without in models of 26 or 27 layers only.
_MOONLIGHT = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False,
    "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11264,
    "kv_lora_rank": 512, "max_position_embeddings": 8192, "moe_intermediate_size": 1408, "moe_layer_freq": 1,
    "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": True, "num_attention_heads": 16,
    "num_experts_per_tok": 6, "num_hidden_layers": 4, "num_key_value_heads": 16, "num_nextn_predict_layers": 0,
    "q_lora_rank": 1024, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05,
    "rope_theta": 50000.0, "routed_scaling_factor": 2.446, "scoring_func": "sigmoid", "tie_word_embeddings": False,
    "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 163840,
}  # fmt: skip
_LFM2 = {
    "model_type": "lfm2_moe", "architectures": ["Lfm2MoeForCausalLM"], "conv_L_cache": 3, "conv_bias": False,
    "hidden_size": 2048, "intermediate_size": 7168,
    "layer_types": ["conv", "conv", "full_attention", "conv", "conv", "conv", "full_attention", "conv"],
    "max_position_embeddings": 128000, "moe_intermediate_size": 1792, "norm_eps": 1e-05, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
    "num_hidden_layers": 8, "num_key_value_heads": 8, "rope_theta": 1e6, "routed_scaling_factor": 1.0,
    "tie_word_embeddings": True, "use_expert_bias": True, "vocab_size": 65536,
}  # fmt: skip
_GPT_OSS = {
    "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "attention_bias": True, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096, "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"], "max_position_embeddings": 131072,
    "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 2, "num_key_value_heads": 8,
    "num_local_experts": 32, "rms_norm_eps": 1e-05, "rope_theta": 150000,
    "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn", "truncate": False,
    },
    "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False, "vocab_size": 201088,
}  # fmt: skip

SHAPES = {
    shape.name: shape
    for shape in (
        PeerShape("granite", "Granite-3.1-1B-A400M", 24, 2.7, "narrow", _GRANITE | _ENDS),
        PeerShape("olmoe", "OLMoE-1B-7B", 16, 3.2, "wide", _OLMOE | _ENDS),
        PeerShape("qwen3", "Qwen3-30B-A3B", 48, 1.5, "wide", _QWEN3 | _ENDS),
        PeerShape("moonlight", "Moonlight-16B-A3B", 27, 3.3, "wide", _MOONLIGHT | _ENDS),
        PeerShape("lfm2", "LFM2-8B-A1B", 24, 22.0, "wide", _LFM2 | _ENDS),
        PeerShape("gpt-oss", "gpt-oss-20b", 24, 12.0, "wide", _GPT_OSS | _ENDS),
    )
}
