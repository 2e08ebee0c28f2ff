"""Gemma 4 with experts: in each layer a dense MLP and experts beside it, windows, keys that are values too.

Source: modeling_gemma4.py of transformers 5.24. Images and sounds are not supported: what sees and hears is left out.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import GEGLU, Experts, GroupedQuery, ModelConfig, Multipliers, Router
from moedge.export.model.layer_kinds import FULL, SLIDING, every, read_kinds, with_rope_of
from moedge.export.model.parts import read_decoder, read_grouped_query, read_text_within
from moedge.export.model.tensor_names import JOINT, TensorNames

MODEL_TYPES = {"gemma4": "Gemma 4 26B-A4B, text only", "gemma4_text": "the same without what sees and hears"}
ATTENTION = "grouped-query"
LEFT_OUT = "images, sounds"

ROPES = {
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
}
LAYER = "model.layers.{layer}"


def read(config: Config) -> ModelConfig:
    """The text model that a gemma4 config.json describes."""
    return read_text_within(config, "gemma4_text", True, read_text)


def read_text(config: Config) -> ModelConfig:
    """The model that its text_config describes."""
    config.require("hidden_activation", "gelu_pytorch_tanh")
    if not config.says("enable_moe_block", True):
        raise config.refuse("enable_moe_block", "a model without experts is none that moedge makes faster")
    config = config.otherwise(
        "hidden_size_per_layer_input", 256 if not config.mentions("hidden_size_per_layer_input") else 0
    )
    config.require("hidden_size_per_layer_input", 0)
    config.require("num_kv_shared_layers", 0)
    config.require("use_double_wide_mlp", False)
    if config.says("use_bidirectional_attention", "all"):
        raise config.refuse("use_bidirectional_attention", "moedge computes causal attention")
    layers, hidden = config.integer("num_hidden_layers"), config.integer("hidden_size", 2304)
    kinds = read_kinds(config, "layer_types", layers, every(FULL, 6, SLIDING, layers), FULL, SLIDING)
    kinds = (*kinds[:-1], FULL)  # whatever the list says of the last one
    model = read_decoder(
        config.otherwise("max_position_embeddings", 131072),
        mixers=[_attention(config, kind, layer) for layer, kind in enumerate(kinds)],
        experts=Experts(
            num_experts=config.integer("num_experts"),
            num_experts_per_tok=config.integer("top_k_experts"),
            intermediate_size=config.integer("moe_intermediate_size"),
            gate=GEGLU,
            router=Router(scoring="softmax", normalize=True, norm_eps=0.0, expert_scale=True),
        ),
        moe_layers=tuple(range(layers)),
        tied=True,
    )
    return replace(
        model,
        block="both",
        mlp_gate=GEGLU,
        multipliers=Multipliers(embedding=hidden**0.5),
        logits_softcap=max(0.0, config.number("final_logit_softcapping", 0.0)),
        names=TensorNames(
            post_attention_norm=f"{LAYER}.pre_feedforward_layernorm",
            after_mixer=f"{LAYER}.post_attention_layernorm",
            after_mlp=f"{LAYER}.post_feedforward_layernorm",
            after_dense=f"{LAYER}.post_feedforward_layernorm_1",
            experts_norm=f"{LAYER}.pre_feedforward_layernorm_2",
            after_experts=f"{LAYER}.post_feedforward_layernorm_2",
            router_norm=f"{LAYER}.router.scale",
            router=f"{LAYER}.router.proj",
            expert_scale=f"{LAYER}.router.per_expert_scale",
            layer_scalar=f"{LAYER}.layer_scalar",
            moe=LAYER,
            experts=JOINT.within("experts."),
        ).ignoring(r"(model\.)?(vision_tower|embed_vision|audio_tower|embed_audio|vision_embedder)\..*"),
    )


def _attention(config: Config, kind: str, layer: int) -> GroupedQuery:
    """Layers that see the whole context have other heads, and may take keys for values.

    transformers 5 writes what they have of their own by layer, the makers in keys for all of them.
    """
    bias, same = config.flag("attention_bias", False), kind == FULL and config.flag("attention_k_eq_v", False)
    own = with_rope_of(config, kind, ROPES[kind])
    if config.has("per_layer_config"):
        special = config.section("per_layer_config").section(str(layer))
        special.require_known("head_dim", "num_key_value_heads")
        for key in ("head_dim", "num_key_value_heads"):
            own = own.stating(key, special.integer(key)) if special.has(key) else own
    elif kind == FULL:
        own = own.stating("head_dim", config.integer("global_head_dim", 512))
        if same and config.has("num_global_key_value_heads"):
            own = own.stating("num_key_value_heads", config.integer("num_global_key_value_heads"))
    return replace(
        read_grouped_query(own, 4, 256),
        scale=1.0,
        qk_norm="head",
        value_norm=True,
        value_is_key=same,
        bias=bias,
        output_bias=bias,
        window=config.integer("sliding_window", 512) if kind == SLIDING else 0,
    )
