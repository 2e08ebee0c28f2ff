"""DeepSeek-V2, V2-Lite and Coder-V2: latent attention, softmax router, greedy or limited to the best groups.

Source: modeling_deepseek.py of its makers, and where that says the same modeling_deepseek_v2.py of transformers 5.23;
DeepSeek-V2 (arXiv:2405.04434).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_latent, read_rope

MODEL_TYPES = {"deepseek_v2": "DeepSeek V2, V2-Lite and Coder-V2"}
ATTENTION = "latent"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a deepseek_v2 config.json describes."""
    config.require("hidden_act", "silu")
    config.require("scoring_func", "softmax")
    config.require("topk_method", "greedy", "group_limited_greedy")
    config.require("moe_layer_freq", 1)
    config.require("use_mla", True)  # the makers' switch to plain attention
    config = config.spelled("n_routed_experts", "num_experts")
    layers = config.integer("num_hidden_layers")
    width = config.integer("moe_intermediate_size")
    rope = read_rope(config, config.integer("qk_rope_head_dim"), interleaved=True)
    active = config.integer("num_experts_per_tok")
    # The makers divide the weights of several experts by their sum instead of scaling them. transformers never divides.
    normalize = config.flag("norm_topk_prob", False) and active > 1
    grouped = config.text("topk_method", "greedy") == "group_limited_greedy"
    return replace(
        read_decoder(
            config,
            mixers=[read_latent(config, rope)] * layers,
            experts=Experts(
                num_experts=config.integer("n_routed_experts"),
                num_experts_per_tok=active,
                intermediate_size=width,
                shared_intermediate_size=width * config.count("n_shared_experts", 2),
                router=Router(
                    scoring="softmax",
                    normalize=normalize,
                    n_group=config.integer("n_group") if grouped else 1,
                    topk_group=config.integer("topk_group") if grouped else 1,
                    group_score="max",
                    scale=1.0 if normalize else config.number("routed_scaling_factor", 1.0),
                ),
            ),
            moe_layers=tuple(range(config.integer("first_k_dense_replace", 0, least=0), layers)),
        ),
        mlp_bias=config.flag("mlp_bias", False),
    )
