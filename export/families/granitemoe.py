"""Granite 3 Mixture-of-Experts, with and without shared experts: constant multipliers, experts in one 3-D tensor.

Source: modeling_granitemoe.py and modeling_granitemoeshared.py of transformers 5.23.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Multipliers, Router
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import LINEAR, TensorNames

MODEL_TYPES = {
    "granitemoe": "Granite 3.0 and 3.1 1B-A400M and 3B-A800M",
    "granitemoeshared": "Granite with shared experts",
}
ATTENTION = "grouped-query"
LEFT_OUT = ""

MOE = "model.layers.{layer}.block_sparse_moe"


def read(config: Config) -> ModelConfig:
    """The model that a granitemoe or granitemoeshared config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_local_experts", "num_experts")
    config.require("position_embedding_type", "rope")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", False)
    attention = replace(read_grouped_query(config), bias=bias, output_bias=bias)
    if config.has("attention_multiplier") or not config.mentions("attention_multiplier"):  # null: the usual scale
        attention = replace(attention, scale=config.number("attention_multiplier", 1.0))
    return replace(
        read_decoder(
            config,
            mixers=[attention] * layers,
            experts=Experts(
                num_experts=config.integer("num_local_experts", 8),
                num_experts_per_tok=config.integer("num_experts_per_tok", 2),
                intermediate_size=config.integer("intermediate_size"),
                router=Router(scoring="softmax", normalize=True),
                shared_intermediate_size=config.count("shared_intermediate_size", 0),
            ),
            moe_layers=tuple(range(layers)),
        ),
        multipliers=Multipliers(
            embedding=config.number("embedding_multiplier", 1.0),
            residual=config.number("residual_multiplier", 1.0),
            logits_divisor=config.number("logits_scaling", 1.0),
        ),
        names=TensorNames(
            moe=MOE,
            router=f"{MOE}.router.layer",
            experts=LINEAR,
            shared_expert="model.layers.{layer}.shared_mlp",
            parts=LINEAR,
        ),
    )
