"""DeepSeek-V3 and R1, Kimi K2 and K2 Thinking, Moonlight: latent attention, sigmoid router with correction bias.

Source: modeling_deepseek_v3.py of transformers 5.23; DeepSeek-V3 (arXiv:2412.19437), Kimi K2 (arXiv:2507.20534).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import patterns_after_last, read_decoder, read_latent, read_rope
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"deepseek_v3": "DeepSeek V3, V3.1 and R1, Moonlight", "kimi_k2": "Kimi K2 and K2 Thinking"}
ATTENTION = "latent"
LEFT_OUT = "multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The model that a deepseek_v3 config.json describes."""
    config.require("hidden_act", "silu")
    config.require("scoring_func", "sigmoid")
    config.require("topk_method", "noaux_tc")
    config.require("moe_layer_freq", 1)
    config = config.spelled("n_routed_experts", "num_local_experts", "num_experts")
    layers = config.integer("num_hidden_layers")
    width = config.integer("moe_intermediate_size")
    rope = read_rope(config, config.integer("qk_rope_head_dim"), interleaved=config.flag("rope_interleave", True))
    return replace(
        read_decoder(
            config,
            mixers=[read_latent(config, rope)] * layers,
            experts=Experts(
                num_experts=config.integer("n_routed_experts"),
                num_experts_per_tok=config.integer("num_experts_per_tok"),
                intermediate_size=width,
                shared_intermediate_size=width * config.count("n_shared_experts", 1),
                router=Router(
                    scoring="sigmoid",
                    normalize=config.flag("norm_topk_prob", True),
                    correction_bias=True,
                    n_group=_groups(config, "n_group", 8),
                    topk_group=_groups(config, "topk_group", 4),
                    scale=config.number("routed_scaling_factor", 2.5),
                ),
            ),
            moe_layers=tuple(range(config.integer("first_k_dense_replace", 3, least=0), layers)),
        ),
        names=TensorNames().ignoring(*patterns_after_last(config, layers)),
    )


def _groups(config: Config, key: str, absent: int) -> int:
    """A number of groups; null is the one that all experts are in."""
    return config.integer(key, 1 if config.mentions(key) else absent)
