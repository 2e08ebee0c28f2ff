"""Qwen3.5 and 3.6 Mixture-of-Experts: gated delta nets with gated attention between them, norms around one.

Source: modeling_qwen3_5_moe.py of transformers 5.24. Images are not supported: what sees them is left out.
"""

from dataclasses import replace
from typing import Literal

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, Mixer, ModelConfig, OutputGate, Router
from moedge.export.model.layer_kinds import FULL, LINEAR_ATTENTION, every, read_kinds
from moedge.export.model.parts import read_decoder, read_grouped_query, read_text_within
from moedge.export.model.recurrent import DeltaNet
from moedge.export.model.tensor_names import JOINT, TensorNames

MODEL_TYPES = {
    "qwen3_5_moe": "Qwen3.5 and Qwen3.6 35B-A3B, 122B-A10B and 397B-A17B, text only",
    "qwen3_5_moe_text": "the same without what sees images",
}
ATTENTION = "delta net, grouped-query"
LEFT_OUT = "images, multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The text model that a qwen3_5_moe config.json describes."""
    return read_text_within(config, "qwen3_5_moe_text", False, read_text)


def read_text(config: Config) -> ModelConfig:
    """The model that its text_config describes."""
    config = config.spelled("num_experts", "num_local_experts")
    config.require("norm_topk_prob", True)
    config.require("mlp_only_layers", [])
    config.require("decoder_sparse_step", 1)
    layers = config.integer("num_hidden_layers")
    model = read_decoder(
        config.otherwise("intermediate_size", config.integer("moe_intermediate_size", 512)),
        mixers=read_mixers(config, "split"),
        experts=Experts(
            num_experts=config.integer("num_experts", 256),
            num_experts_per_tok=config.integer("num_experts_per_tok", 8),
            intermediate_size=config.integer("moe_intermediate_size", 512),
            router=Router(scoring="softmax", normalize=True),
            shared_intermediate_size=config.count("shared_expert_intermediate_size", 512),
            shared_gate=True,
        ),
        moe_layers=tuple(range(layers)),
    )
    names = TensorNames(
        shared_expert="model.layers.{layer}.mlp.shared_expert", experts=JOINT.within("experts.")
    ).ignoring(r"(model\.)?visual\..*", r"mtp\..*")
    return replace(model, norm_offset=1.0, names=names)


def read_mixers(config: Config, layout: Literal["split", "grouped"]) -> list[Mixer]:
    """The mixer of each layer: a delta net, or attention whose queries have gates beside them."""
    config.require("hidden_act", "silu")
    config.require("attn_output_gate", True)
    layers, bias = config.integer("num_hidden_layers"), config.flag("attention_bias", False)
    usual = every(FULL, config.integer("full_attention_interval", 4), LINEAR_ATTENTION, layers)
    attention = replace(
        read_grouped_query(config, 2, 256, partial=0.25),
        qk_norm="head",
        gate=OutputGate("q_proj", "sigmoid"),
        bias=bias,
        output_bias=bias,
    )
    keys, values = config.integer("linear_num_key_heads", 16), config.integer("linear_num_value_heads", 32)
    if values % keys:
        raise config.refuse("linear_num_value_heads", f"{values} heads of values cannot share {keys} of keys")
    delta_net = DeltaNet(
        key_heads=keys,
        value_heads=values,
        key_dim=config.integer("linear_key_head_dim", 128),
        value_dim=config.integer("linear_value_head_dim", 128),
        kernel=config.integer("linear_conv_kernel_dim", 4, least=2),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        layout=layout,
    )
    kinds = read_kinds(config, "layer_types", layers, usual, FULL, LINEAR_ATTENTION)
    return [attention if kind == FULL else delta_net for kind in kinds]
