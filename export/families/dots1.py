"""dots.llm1: attention with q/k norm of each head, sigmoid router with correction bias, shared experts.

Source: modeling_dots1.py of transformers 5.23; dots.llm1 (arXiv:2506.05767).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query, slide, sliding_layers

MODEL_TYPES = {"dots1": "dots.llm1"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a dots1 config.json describes."""
    config.require("hidden_act", "silu")
    config.require("scoring_func", "sigmoid", "noaux_tc")  # dots.llm1 calls it by the method
    config.require("topk_method", "noaux_tc")
    config.require("moe_layer_freq", 1)
    config = config.spelled("n_routed_experts", "num_local_experts", "num_experts")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", False)
    attention = replace(read_grouped_query(config, 32), qk_norm="head", bias=bias, output_bias=bias)
    mixers = (attention,) * layers
    if config.has("sliding_window") or not config.mentions("sliding_window"):
        full = min(config.integer("max_window_layers", 62, least=0), layers)
        sliding = sliding_layers(config, tuple(range(full, layers)))
        mixers = slide(attention, layers, config.integer("sliding_window", 4096), sliding)
    elif sliding_layers(config, ()):
        raise config.refuse("layer_types", "it has sliding windows, whose width sliding_window does not say")
    width = config.integer("moe_intermediate_size", 1408)
    return read_decoder(
        config,
        mixers=mixers,
        experts=Experts(
            num_experts=config.integer("n_routed_experts"),
            num_experts_per_tok=config.integer("num_experts_per_tok"),
            intermediate_size=width,
            shared_intermediate_size=width * config.count("n_shared_experts", 0),
            router=Router(
                scoring="sigmoid",
                normalize=config.flag("norm_topk_prob", False),
                correction_bias=True,
                n_group=config.integer("n_group", 1),
                topk_group=config.integer("topk_group", 1),
                scale=config.number("routed_scaling_factor", 1.0),
            ),
        ),
        moe_layers=tuple(range(config.integer("first_k_dense_replace", 0, least=0), layers)),
    )
