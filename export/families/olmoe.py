"""OLMoE: q and k normalised as whole vectors, optionally clipped; softmax router, weights as they are.

Source: modeling_olmoe.py of transformers 5.23; OLMoE (arXiv:2409.02060).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query

MODEL_TYPES = {"olmoe": "OLMoE-1B-7B"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that an olmoe config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_experts", "num_local_experts")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", False)
    attention = replace(
        read_grouped_query(config),
        qk_norm="whole",
        clip=config.number("clip_qkv") if config.has("clip_qkv") else None,
        bias=bias,
        output_bias=bias,
    )
    return read_decoder(
        config,
        mixers=[attention] * layers,
        experts=Experts(
            num_experts=config.integer("num_experts", 64),
            num_experts_per_tok=config.integer("num_experts_per_tok", 8),
            intermediate_size=config.integer("intermediate_size"),
            router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", False)),
        ),
        moe_layers=tuple(range(layers)),
        norm_eps=1e-5,
    )
