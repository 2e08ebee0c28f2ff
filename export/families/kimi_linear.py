"""Kimi Linear: Kimi's delta attention, and without positions every fourth layer latent attention; a sigmoid router.

Source: modeling_kimi_linear.py of transformers 5.24; Kimi Linear (arXiv:2510.26692).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, Mixer, ModelConfig, Router
from moedge.export.model.layer_kinds import FULL, LINEAR_ATTENTION, dense_first, read_kinds, sparse_layers
from moedge.export.model.parts import MOST_HEAD_DIM, read_decoder, read_latent
from moedge.export.model.recurrent import DeltaNet
from moedge.export.model.rope import Proportional, Rope
from moedge.export.model.tensor_names import NUMBERED, TensorNames

MODEL_TYPES = {"kimi_linear": "Kimi Linear 48B-A3B"}
ATTENTION = "delta net, latent"
LEFT_OUT = ""

STILL = Proportional(share=0.0, factor=1.0)  # no frequency turns: cosines of 1, sines of 0


def read(config: Config) -> ModelConfig:
    """The model that a kimi_linear config.json describes."""
    config.require("hidden_act", "silu")
    config.require("mla_use_nope", True)
    config.require("moe_layer_freq", 1)
    config.require("moe_router_activation_func", "sigmoid")
    config.require("topk_method", "noaux_tc")
    config = spell_alike(config).otherwise("max_position_embeddings", 1048576)
    layers = config.integer("num_hidden_layers")
    model = read_decoder(
        config,
        mixers=_read_mixers(config),
        experts=read_experts(config, 256, 2.446, 1, 1),
        moe_layers=sparse_layers(config, layers, dense_first(config.count("first_k_dense_replace", 1), layers)),
        norm_eps=1e-5,
    )
    names = TensorNames(recurrent="model.layers.{layer}.self_attn", experts=NUMBERED.within("experts.{expert}."))
    return replace(model, names=names)


def spell_alike(config: Config) -> Config:
    """The configuration with DeepSeek's names for what other makers of such layers call otherwise."""
    for key, *others in (
        ("max_position_embeddings", "model_max_length"),
        ("norm_topk_prob", "moe_renormalize"),
        ("n_group", "num_expert_group"),
        ("num_experts", "num_local_experts", "n_routed_experts"),
        ("num_experts_per_tok", "num_experts_per_token"),
        ("n_shared_experts", "num_shared_experts"),
    ):
        if not config.mentions(key):  # null says something of its own
            config = config.spelled(key, *others)
    return config


def read_experts(config: Config, experts: int, scale: float, n_group: int, topk_group: int) -> Experts:
    """Experts behind DeepSeek's router, with the family's defaults."""
    width = config.integer("moe_intermediate_size")
    shared = config.integer("moe_shared_expert_intermediate_size", width)
    return Experts(
        num_experts=config.integer("num_experts", experts),
        num_experts_per_tok=config.integer("num_experts_per_tok", 8),
        intermediate_size=width,
        shared_intermediate_size=shared * config.count("n_shared_experts", 1),
        router=Router(
            scoring="sigmoid",
            normalize=config.flag("norm_topk_prob", True),
            correction_bias=True,
            n_group=config.integer("n_group", n_group),
            topk_group=config.integer("topk_group", topk_group),
            scale=config.number("routed_scaling_factor", scale),
        ),
    )


def _read_mixers(config: Config) -> list[Mixer]:
    linear = config.section("linear_attn_config")
    heads = linear.integer("num_heads", config.integer("linear_num_heads", 32))
    width = linear.integer("head_dim", config.integer("linear_head_dim", 128))
    kernel = config.integer("linear_conv_kernel_dim", 4, least=2)
    delta_net = DeltaNet(
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        kernel=linear.integer("short_conv_kernel_size", kernel, least=2),
        norm_eps=config.number("rms_norm_eps", 1e-5),
        layout="kda",
        channel_decay=True,
        gate="sigmoid",
    )
    shared = config.integer("qk_rope_head_dim", most=MOST_HEAD_DIM)
    if shared % 2:
        raise config.refuse("qk_rope_head_dim", "it must be even")
    latent = read_latent(config, Rope(10000.0, shared, scaling=STILL))
    return [latent if kind == FULL else delta_net for kind in _read_kinds(config, linear)]


def _read_kinds(config: Config, linear: Config) -> tuple[str, ...]:
    """What each layer is. Makers count from 1 and list the layers of either kind; transformers names each layer's."""
    layers = config.integer("num_hidden_layers")
    usual = [FULL if layer and layer % 4 == 0 else LINEAR_ATTENTION for layer in range(layers)]
    if not config.texts("layer_types") and linear.has("full_attn_layers") and linear.has("kda_layers"):
        full, recurrent = linear.integers("full_attn_layers"), linear.integers("kda_layers")
        if sorted([*full, *recurrent]) != list(range(1, layers + 1)):
            raise linear.refuse("kda_layers", f"with full_attn_layers it must name each of the {layers} layers once")
        usual = [FULL if layer + 1 in full else LINEAR_ATTENTION for layer in range(layers)]
    return read_kinds(config, "layer_types", layers, usual, FULL, LINEAR_ATTENTION)
