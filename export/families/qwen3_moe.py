"""Qwen3 Mixture-of-Experts (Qwen3-30B-A3B and its kin): grouped-query attention with q/k norm, softmax router.

Source: modeling_qwen3_moe.py of transformers 5.23; Qwen3 (arXiv:2505.09388).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query

MODEL_TYPES = {"qwen3_moe": "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a qwen3_moe config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_experts", "num_local_experts")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", False)
    attention = replace(read_grouped_query(config, 4), qk_norm="head", bias=bias, output_bias=bias)
    if config.flag("use_sliding_window", False):
        attention = replace(attention, window=config.integer("sliding_window", 4096))
    dense, step = config.integers("mlp_only_layers"), config.integer("decoder_sparse_step", 1)
    return read_decoder(
        config,
        mixers=[attention] * layers,
        experts=Experts(
            num_experts=config.integer("num_experts", 128),
            num_experts_per_tok=config.integer("num_experts_per_tok"),
            intermediate_size=config.integer("moe_intermediate_size"),
            router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", False)),
        ),
        moe_layers=tuple(i for i in range(layers) if i not in dense and (i + 1) % step == 0),
    )
