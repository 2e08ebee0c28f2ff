"""Arcee's Mixture-of-Experts: norms before and after both halves of a layer, gated attention, positions in windows.

Source: modeling_afmoe.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Multipliers, OutputGate, Router
from moedge.export.model.layer_kinds import FULL, SLIDING, every, read_kinds
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"afmoe": "Trinity Nano, Trinity Mini 26B-A3B"}
ATTENTION = "grouped-query"
LEFT_OUT = ""

LAYER = "model.layers.{layer}"


def read(config: Config) -> ModelConfig:
    """The model that an afmoe config.json describes."""
    config.require("hidden_act", "silu")
    config.require("score_func", "sigmoid")
    config.require("route_norm", True)
    for key in ("num_expert_groups", "num_limited_groups", "n_group", "topk_group"):
        config.require(key, 1)
    layers, bias = config.integer("num_hidden_layers"), config.flag("attention_bias", False)
    usual = every(FULL, config.integer("global_attn_every_n_layers", 4), SLIDING, layers)
    kinds = read_kinds(config, "layer_types", layers, usual, FULL, SLIDING)
    attention = replace(
        read_grouped_query(config, head_dim=128),
        qk_norm="head",
        bias=bias,
        output_bias=bias,
        gate=OutputGate("gate_proj", "sigmoid"),
    )
    near = replace(attention, window=config.integer("sliding_window", 1024))
    far = replace(attention, rope=None)
    width = config.integer("moe_intermediate_size", 1408)
    model = read_decoder(
        config,
        mixers=[near if kind == SLIDING else far for kind in kinds],
        experts=Experts(
            num_experts=config.integer("num_experts", 64),
            num_experts_per_tok=config.integer("num_experts_per_tok", 6),
            intermediate_size=width,
            shared_intermediate_size=width * config.count("num_shared_experts", 2),
            router=Router(
                scoring="sigmoid",
                normalize=True,
                correction_bias=True,
                scale=config.number("route_scale", 1.0),
            ),
        ),
        moe_layers=tuple(range(config.count("num_dense_layers", 1), layers)),
        norm_eps=1e-5,
    )
    return replace(
        model,
        multipliers=Multipliers(embedding=model.hidden_size**0.5 if config.flag("mup_enabled", False) else 1.0),
        names=TensorNames(
            after_mixer=f"{LAYER}.post_attention_layernorm",
            post_attention_norm=f"{LAYER}.pre_mlp_layernorm",
            after_mlp=f"{LAYER}.post_mlp_layernorm",
            router=f"{LAYER}.mlp.router.gate",
            correction_bias=f"{LAYER}.mlp.expert_bias",
        ),
    )
