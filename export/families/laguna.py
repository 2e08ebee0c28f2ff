"""Laguna: as many query heads as each layer says, a softplus gate of what they give, sigmoid router, windows.

Source: modeling_laguna.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, GroupedQuery, ModelConfig, OutputGate, Router
from moedge.export.model.layer_kinds import FULL, SLIDING, dense_first, read_kinds, sparse_layers, with_rope_of
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"laguna": "Laguna XS.2 and XS 2.1"}
ATTENTION = "grouped-query"
LEFT_OUT = ""

ROPES = {
    FULL: {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
}


def read(config: Config) -> ModelConfig:
    """The model that a laguna config.json describes."""
    config.require("hidden_act", "silu")
    config.require("moe_apply_router_weight_on_input", False)
    config.require("norm_topk_prob", True)
    layers = config.integer("num_hidden_layers")
    kinds = read_kinds(config, "layer_types", layers, [FULL] * layers, FULL, SLIDING)
    heads = config.integers("num_attention_heads_per_layer") or [config.integer("num_attention_heads", 48)] * layers
    if len(heads) != layers:
        raise config.refuse("num_attention_heads_per_layer", f"it must name each of the {layers} layers")
    width = config.integer("moe_intermediate_size", 512)
    model = read_decoder(
        config,
        mixers=[_attention(config, kind, count) for kind, count in zip(kinds, heads, strict=True)],
        experts=Experts(
            num_experts=config.integer("num_experts", 256),
            num_experts_per_tok=config.integer("num_experts_per_tok", 8),
            intermediate_size=width,
            shared_intermediate_size=config.integer("shared_expert_intermediate_size", 512),
            router=Router(
                scoring="sigmoid",
                normalize=True,
                norm_eps=0.0,
                correction_bias=True,
                softcap=max(0.0, config.number("moe_router_logit_softcapping", 0.0)),
                scale=config.number("moe_routed_scaling_factor", 1.0),
            ),
        ),
        moe_layers=sparse_layers(config, layers, _usual_mlps(config, layers)),
    )
    return replace(
        model,
        names=TensorNames(
            shared_expert="model.layers.{layer}.mlp.shared_expert",
            correction_bias="model.layers.{layer}.mlp.experts.e_score_correction_bias",
        ),
    )


def _usual_mlps(config: Config, layers: int) -> list[str]:
    """As the makers' own code says it, by number, or the first dense and no other."""
    if not config.mentions("mlp_only_layers"):
        return dense_first(1, layers)
    dense = config.integers("mlp_only_layers")
    return ["dense" if layer in dense else "sparse" for layer in range(layers)]


def _attention(config: Config, kind: str, heads: int) -> GroupedQuery:
    config.require("gating", True, "per-head", "per-element")
    own = with_rope_of(config, kind, ROPES[kind]).stating("num_attention_heads", heads)
    return replace(
        read_grouped_query(own, 8, 128, partial=1.0),
        qk_norm="head",
        bias=config.flag("attention_bias", False),
        output_bias=config.flag("attention_bias", False),
        gate=OutputGate("g_proj", "softplus", per_head=not config.says("gating", "per-element")),
        window=config.integer("sliding_window", 512) if kind == SLIDING else 0,
    )
