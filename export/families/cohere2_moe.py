"""Cohere's Mixture-of-Experts: attention and experts read one norm side by side; positions only in windows.

Source: modeling_cohere2_moe.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, GroupedQuery, ModelConfig, Multipliers, Router
from moedge.export.model.layer_kinds import FULL, SLIDING, dense_first, every, read_kinds, sparse_layers
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"cohere2_moe": "North Mini Code 1.0"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a cohere2_moe config.json describes."""
    config.require("hidden_act", "silu")
    if config.says_anything("rope_scaling"):
        raise config.refuse("rope_scaling", "transformers leaves it out: say in rope_parameters what is meant")
    config.require("use_parallel_block", True)
    config.require("use_qk_norm", False)
    layers, dense = config.integer("num_hidden_layers"), config.integer("first_k_dense_replace", 0, least=0)
    prefix = config.integer("prefix_dense_sliding_window_pattern", 1)
    usual = every(FULL, prefix, SLIDING, dense)
    usual += every(FULL, config.integer("sliding_window_pattern", 4), SLIDING, layers - dense)
    kinds = read_kinds(config, "layer_types", layers, usual, FULL, SLIDING)
    sparse = sparse_layers(config, layers, dense_first(dense, layers))
    attention = _attention(config)
    still = replace(attention, rope=None)
    window = config.integer("sliding_window", 4096)
    mixers = [
        replace(attention, window=window)
        if kind == SLIDING
        else attention
        if layer not in sparse and prefix == 1
        else still
        for layer, kind in enumerate(kinds)
    ]
    width, shared = config.integer("intermediate_size", 22528), config.count("num_shared_experts", 0)
    config.require("expert_selection_fn", "softmax", "sigmoid")
    config.require("shared_expert_combination_strategy", "average", "sum")
    by_softmax = not config.says("expert_selection_fn", "sigmoid")
    model = read_decoder(
        config.spelled("rms_norm_eps", "layer_norm_eps").otherwise("max_position_embeddings", 8192),
        mixers=mixers,
        experts=Experts(
            num_experts=config.integer("num_experts", 8),
            num_experts_per_tok=config.integer("num_experts_per_tok", 2),
            intermediate_size=width,
            shared_intermediate_size=width * shared,
            mean=bool(shared) and not config.says("shared_expert_combination_strategy", "sum"),
            router=Router(
                scoring="softmax" if by_softmax else "sigmoid",
                normalize=by_softmax or config.flag("norm_topk_prob", True),
                norm_eps=0.0,
            ),
        ),
        moe_layers=sparse,
        norm_eps=1e-5,
        tied=True,
    )
    return replace(
        model,
        intermediate_size=config.integer("prefix_dense_intermediate_size", width),
        block="parallel",
        norm="rms" if config.has("rms_norm_eps") else "layer",
        norm_bias=False,
        multipliers=Multipliers(logits_divisor=1 / config.number("logit_scale", 0.0625)),
        names=TensorNames(post_attention_norm="model.layers.{layer}.input_layernorm"),
    )


def _attention(config: Config) -> GroupedQuery:
    bias = config.flag("attention_bias", False)
    return replace(read_grouped_query(config, head_dim=128, interleaved=True), bias=bias, output_bias=bias)
