"""GLM-4.5 and later: half of each head is rotated, sigmoid router with correction bias, shared experts.

Source: modeling_glm4_moe.py of transformers 5.23; GLM-4.5 (arXiv:2508.06471).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import patterns_after_last, read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"glm4_moe": "GLM-4.5, GLM-4.5-Air, GLM-4.6"}
ATTENTION = "grouped-query"
LEFT_OUT = "multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The model that a glm4_moe config.json describes."""
    config.require("hidden_act", "silu")
    config.require("scoring_func", "sigmoid")
    config.require("topk_method", "noaux_tc")
    config.require("moe_layer_freq", 1)
    config = config.spelled("n_routed_experts", "num_local_experts", "num_experts")
    layers = config.integer("num_hidden_layers")
    attention = replace(
        read_grouped_query(config, 8, partial=0.5),
        bias=config.flag("attention_bias", False),
        qk_norm="head" if config.flag("use_qk_norm", False) else "none",
    )
    width = config.integer("moe_intermediate_size", 1408)
    return replace(
        read_decoder(
            config,
            mixers=[attention] * layers,
            experts=Experts(
                num_experts=config.integer("n_routed_experts", 128),
                num_experts_per_tok=config.integer("num_experts_per_tok", 8),
                intermediate_size=width,
                shared_intermediate_size=width * config.count("n_shared_experts", 1),
                router=Router(
                    scoring="sigmoid",
                    normalize=config.flag("norm_topk_prob", True),
                    correction_bias=True,
                    n_group=config.integer("n_group", 1),
                    topk_group=config.integer("topk_group", 1),
                    scale=config.number("routed_scaling_factor", 1.0),
                ),
            ),
            moe_layers=tuple(range(config.integer("first_k_dense_replace", 1, least=0), layers)),
            norm_eps=1e-5,
        ),
        names=TensorNames().ignoring(*patterns_after_last(config, layers)),
    )
