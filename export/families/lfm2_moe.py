"""LFM2 Mixture-of-Experts: short convolutions with attention between them, sigmoid router, tied embeddings.

Source: modeling_lfm2_moe.py of transformers 5.23; LFM2 (arXiv:2511.23404).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, ModelConfig, Router, ShortConvolution
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import NUMBERED, TensorNames

MODEL_TYPES = {"lfm2_moe": "LFM2-8B-A1B, LFM2.5-8B-A1B"}
ATTENTION = "grouped-query, convolution"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that an lfm2_moe config.json describes."""
    config.require("use_pos_enc", True)  # a key of the makers' that transformers does not know
    config.require_each("layer_types", "conv", "full_attention")
    layers = config.integer("num_hidden_layers")
    types = config.texts("layer_types")
    if len(types) != layers:
        raise config.refuse("layer_types", f"it must name each of the {layers} layers")
    attention = replace(read_grouped_query(config, 8, theta=1e6), qk_norm="head")
    convolution = ShortConvolution(config.integer("conv_L_cache", 3), config.flag("conv_bias", False))
    bias = config.flag("use_expert_bias", True)
    return replace(
        read_decoder(
            config,
            mixers=[convolution if kind == "conv" else attention for kind in types],
            experts=Experts(
                num_experts=config.integer("num_experts", 32),
                num_experts_per_tok=config.integer("num_experts_per_tok", 4),
                intermediate_size=config.integer("moe_intermediate_size", 1792),
                router=Router(
                    scoring="sigmoid",
                    normalize=config.flag("norm_topk_prob", True),
                    norm_eps=1e-6,
                    correction_bias=bias,
                    scale=config.number("routed_scaling_factor", 1.0),
                ),
            ),
            moe_layers=tuple(range(config.integer("num_dense_layers", 2, least=0), layers)),
        ),
        norm_eps=config.number("norm_eps", 1e-5),
        tie_word_embeddings=config.flag("tie_embedding", config.flag("tie_word_embeddings", True)),
        names=TensorNames(
            final_norm="model.embedding_norm",
            input_norm="model.layers.{layer}.operator_norm",
            post_attention_norm="model.layers.{layer}.ffn_norm",
            q_norm="q_layernorm",
            k_norm="k_layernorm",
            output="out_proj",
            mlp="model.layers.{layer}.feed_forward",
            moe="model.layers.{layer}.feed_forward",
            router="model.layers.{layer}.feed_forward.gate",
            correction_bias="model.layers.{layer}.feed_forward.expert_bias",
            experts=NUMBERED.within("experts.{expert}."),
            parts=NUMBERED,
        ),
    )
