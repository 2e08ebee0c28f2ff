"""Qwen3 Mixture-of-Experts (Qwen3-30B-A3B and its kin): grouped-query attention with q/k norm, softmax router.

Source: modeling_qwen3_moe.py of transformers 5.23; Qwen3 (arXiv:2505.09388).
"""

from moedge.export.config import Config
from moedge.export.model_config import Experts, GroupedQuery, ModelConfig, Router, TensorNames

MODEL_TYPES = ("qwen3_moe",)


def read(config: Config) -> ModelConfig:
    """The model that a qwen3_moe config.json describes."""
    config.require("hidden_act", "silu")
    config.require("use_sliding_window", False)
    layers = config.integer("num_hidden_layers")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", hidden // heads)
    dense = config.integers("mlp_only_layers")
    step = config.integer("decoder_sparse_step", 1)
    bias = config.flag("attention_bias", False)
    return ModelConfig(
        model_type=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=config.integer("intermediate_size"),
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        tie_word_embeddings=config.flag("tie_word_embeddings", False),
        max_position_embeddings=config.integer("max_position_embeddings"),
        attention=GroupedQuery(
            num_heads=heads,
            num_kv_heads=config.integer("num_key_value_heads", 4),
            head_dim=head_dim,
            scale=head_dim**-0.5,
            qk_norm=True,
            bias=bias,
            output_bias=bias,
        ),
        rope=config.rope(head_dim),
        experts=Experts(
            num_experts=config.integer("num_experts" if config.has("num_experts") else "num_local_experts"),
            num_experts_per_tok=config.integer("num_experts_per_tok"),
            intermediate_size=config.integer("moe_intermediate_size"),
            router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", False)),
        ),
        moe_layers=tuple(i for i in range(layers) if i not in dense and (i + 1) % step == 0),
        names=TensorNames(ignored=(r".*\.rotary_emb\.inv_freq",)),
    )
