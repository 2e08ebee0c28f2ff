"""ERNIE 4.5 Mixture-of-Experts: neighbours rotated in pairs, softmax router with correction bias, shared experts.

Source: modeling_ernie4_5_moe.py of transformers 5.23; the gate's switches are of the makers' erniekit.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"ernie4_5_moe": "ERNIE-4.5-21B-A3B, ERNIE-4.5-300B-A47B"}
ATTENTION = "grouped-query"
LEFT_OUT = "multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The model that an ernie4_5_moe config.json describes."""
    config.require("hidden_act", "silu")
    config.require("moe_gate_act", "softmax")
    config.require("compression_ratio", 1.0)  # of positions, in the makers' own code, as are the next two
    config.require("use_rmsnorm", True)
    config.require("moe_group_experts", False)
    config = config.spelled("moe_num_experts", "num_experts", "num_local_experts")
    config = config.spelled("moe_k", "num_experts_per_tok")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("use_bias", False)
    attention = replace(read_grouped_query(config, 4, interleaved=True, theta=500000.0), bias=bias, output_bias=bias)
    width = config.integer("moe_intermediate_size", 1536)
    first, interval = config.integer("moe_layer_start_index", 1, least=0), config.integer("moe_layer_interval", 1)
    last = config.integer("moe_layer_end_index", -1, least=-1)
    last = layers - 1 if last == -1 else last
    return replace(
        read_decoder(
            config,
            mixers=[attention] * layers,
            experts=Experts(
                num_experts=config.integer("moe_num_experts", 64),
                num_experts_per_tok=config.integer("moe_k", 6),
                intermediate_size=width,
                router=Router(
                    scoring="softmax",
                    normalize=config.flag("moe_norm_gate_logits", True),
                    correction_bias=config.flag("moe_use_aux_free", True),
                    norm_eps=0.0,
                    norm_min=config.number("moe_norm_min", 1e-12),
                ),
                shared_intermediate_size=width * config.count("moe_num_shared_experts", 2),
            ),
            moe_layers=tuple(i for i in range(layers) if first <= i <= last and (i + 1) % interval == 0),
            norm_eps=1e-5,
            tied=True,
        ),
        mlp_bias=bias,
        lm_head_bias=bias,
        names=TensorNames(
            correction_bias="model.layers.{layer}.mlp.moe_statics.e_score_correction_bias",
        ).ignoring(r"(model\.)?mtp.*"),
    )
