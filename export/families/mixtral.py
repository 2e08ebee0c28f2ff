"""Mixtral 8x7B and 8x22B: grouped-query attention, softmax router.

Source: modeling_mixtral.py of transformers 5.23; Mixtral of Experts (arXiv:2401.04088).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query, with_window
from moedge.export.model.tensor_names import NUMBERED, TensorNames

MODEL_TYPES = {"mixtral": "Mixtral 8x7B and 8x22B"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a mixtral config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_local_experts", "num_experts")
    layers = config.integer("num_hidden_layers")
    attention = with_window(config, read_grouped_query(config, theta=1e6))
    return replace(
        read_decoder(
            config,
            mixers=[attention] * layers,
            experts=Experts(
                num_experts=config.integer("num_local_experts", 8),
                num_experts_per_tok=config.integer("num_experts_per_tok", 2),
                intermediate_size=config.integer("intermediate_size"),
                router=Router(scoring="softmax", normalize=True),
            ),
            moe_layers=tuple(range(layers)),
            norm_eps=1e-5,
        ),
        names=TensorNames(
            moe="model.layers.{layer}.block_sparse_moe",
            router="model.layers.{layer}.block_sparse_moe.gate",
            experts=NUMBERED.within("experts.{expert}."),
        ),
    )
