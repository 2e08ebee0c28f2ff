"""Mellum 2: attention with norms of queries and keys, a window in some layers, and positions a kind of layer.

Source: modeling_mellum.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.layer_kinds import FULL, SLIDING, read_kinds, sparse_layers, with_rope_of
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"mellum": "Mellum 2 and 2.1 12B-A2.5B"}
ATTENTION = "grouped-query"
LEFT_OUT = "multi-token prediction"

ROPES = {
    FULL: {"rope_type": "default", "rope_theta": 500000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
}


def read(config: Config) -> ModelConfig:
    """The model that a mellum config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_experts", "num_local_experts")
    layers, bias = config.integer("num_hidden_layers"), config.flag("attention_bias", False)
    kinds = read_kinds(config, "layer_types", layers, [FULL] * layers, FULL, SLIDING)
    attention = {
        kind: replace(
            read_grouped_query(with_rope_of(config, kind, ROPES[kind]), 4, 128),
            qk_norm="head",
            bias=bias,
            output_bias=bias,
            window=config.integer("sliding_window", 1024) if kind == SLIDING else 0,
        )
        for kind in dict.fromkeys(kinds)
    }
    model = read_decoder(
        config,
        mixers=[attention[kind] for kind in kinds],
        experts=Experts(
            num_experts=config.integer("num_experts", 64),
            num_experts_per_tok=config.integer("num_experts_per_tok", 8),
            intermediate_size=config.integer("moe_intermediate_size", 896),
            router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", True)),
        ),
        moe_layers=sparse_layers(config, layers, ["sparse"] * layers),
    )
    return replace(model, names=TensorNames().ignoring(r"(model\.)?mtp\..*"))
