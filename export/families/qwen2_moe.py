"""Qwen1.5-MoE and Qwen2-MoE: grouped-query attention with biases, softmax router, a gated shared expert.

Source: modeling_qwen2_moe.py of transformers 5.23; Qwen2 (arXiv:2407.10671).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query, slide, sliding_layers
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"qwen2_moe": "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a qwen2_moe config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_experts", "num_local_experts")
    shared = config.count("shared_expert_intermediate_size", 5632)
    names = TensorNames(shared_expert="model.layers.{layer}.mlp.shared_expert")
    layers = config.integer("num_hidden_layers")
    attention = replace(read_grouped_query(config, 16), bias=config.flag("qkv_bias", True))
    mixers = (attention,) * layers
    if config.flag("use_sliding_window", False):
        below = min(config.integer("max_window_layers", 28, least=0), layers)
        sliding = sliding_layers(config, tuple(range(0, below, 2)))
        mixers = slide(attention, layers, config.integer("sliding_window", 4096), sliding)
    elif sliding_layers(config, ()):
        raise config.refuse("layer_types", "it has sliding windows where use_sliding_window has none")
    dense, step = config.integers("mlp_only_layers"), config.integer("decoder_sparse_step", 1)
    return replace(
        read_decoder(
            config,
            mixers=mixers,
            experts=Experts(
                num_experts=config.integer("num_experts", 60),
                num_experts_per_tok=config.integer("num_experts_per_tok", 4),
                intermediate_size=config.integer("moe_intermediate_size", 1408),
                router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", False)),
                shared_intermediate_size=shared,
                shared_gate=shared > 0,
            ),
            moe_layers=tuple(i for i in range(layers) if i not in dense and (i + 1) % step == 0),
        ),
        # a gate is stored also where it opens to nothing
        names=names if shared else names.ignoring(r"model\.layers\.\d+\.mlp\.shared_expert_gate\.weight"),
    )
