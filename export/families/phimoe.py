"""Phi-3.5-MoE: LayerNorm, biases in attention and head, LongRoPE, sparsemixer router.

Source: modeling_phimoe.py of transformers 5.23; GRIN-MoE (arXiv:2409.12136), Phi-3 (arXiv:2404.14219).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query, with_window
from moedge.export.model.rope import LongRope
from moedge.export.model.tensor_names import NUMBERED, TensorNames

MODEL_TYPES = {"phimoe": "Phi-3.5-MoE-instruct, Phi-mini-MoE, GRIN-MoE"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a phimoe config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_local_experts", "num_experts")
    config.require("num_experts_per_tok", 2)  # sparsemixer is defined for two
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", False)
    attention = replace(read_grouped_query(config, 8, theta=1e6), bias=bias, output_bias=bias)
    attention = with_window(config, attention)
    if attention.rope is None or not isinstance(attention.rope.scaling, LongRope | None):
        key = "rope_scaling" if config.says_anything("rope_scaling") else "rope_parameters"
        raise config.refuse(key, "moedge supports only longrope here, which this family's magnitudes are made for")
    return replace(
        read_decoder(
            config,
            mixers=[attention] * layers,
            experts=Experts(
                num_experts=config.integer("num_local_experts", 16),
                num_experts_per_tok=2,
                intermediate_size=config.integer("intermediate_size"),
                router=Router(
                    scoring="sparsemixer", normalize=False, jitter_eps=config.number("router_jitter_noise", 0.01)
                ),
            ),
            moe_layers=tuple(range(layers)),
            norm_eps=1e-5,
        ),
        norm="layer",
        lm_head_bias=config.flag("lm_head_bias", False),
        names=TensorNames(
            moe="model.layers.{layer}.block_sparse_moe",
            router="model.layers.{layer}.block_sparse_moe.gate",
            experts=NUMBERED.within("experts.{expert}."),
        ),
    )
