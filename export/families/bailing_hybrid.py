"""Ling 3: Kimi's delta attention, and every so many layers latent attention with a gate a head; DeepSeek's router.

Source: modeling_bailing_hybrid.py of transformers 5.24. Ling 2.5 and 2.6 have the same model_type and other layers.
"""

from dataclasses import replace

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families.kimi_linear import read_experts, spell_alike
from moedge.export.model.config import Mixer, ModelConfig, OutputGate
from moedge.export.model.layer_kinds import FULL, LINEAR_ATTENTION, dense_first, every, read_kinds, sparse_layers
from moedge.export.model.parts import ROPE_KEYS, patterns_after_last, read_decoder, read_latent, read_rope
from moedge.export.model.recurrent import DeltaNet
from moedge.export.model.rope import Rope
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"bailing_hybrid": "Ling 3.0 Tiny"}
ATTENTION = "delta net, latent"
LEFT_OUT = "multi-token prediction"

MIXER = "model.layers.{layer}.attention"
# One of them is in every config of Ling 3, the last three where transformers wrote it, and none in Ling 2.5 and 2.6.
OF_DELTA_NETS = (
    "kda_lower_bound", "kda_safe_gate", "no_kda_lora", "short_conv_kernel_size", "linear_head_dim", "linear_num_heads",
    "linear_conv_kernel_dim",
)  # fmt: skip


def read(config: Config) -> ModelConfig:
    """The model that a bailing_hybrid config.json describes."""
    if not any(config.has(key) for key in OF_DELTA_NETS):
        raise MoedgeError(
            f"{config.source} is of a Ling 2.5 or 2.6, with layers of linear attention that moedge does not compute: "
            "take one of the models that `moedge families` lists."
        )
    _refuse_others(config)
    config = spell_alike(config).otherwise("max_position_embeddings", 262144)
    layers = config.integer("num_hidden_layers")
    model = read_decoder(
        config,
        mixers=_read_mixers(config, layers),
        experts=read_experts(config, 512, 2.5, 8, 4),
        moe_layers=sparse_layers(config, layers, dense_first(config.count("first_k_dense_replace", 2), layers)),
    )
    names = TensorNames(embedding="model.word_embeddings", attention=MIXER, recurrent=MIXER, output="dense")
    return replace(model, names=names.ignoring(*patterns_after_last(config, layers)))


def _refuse_others(config: Config) -> None:
    """Refuse what the makers' configurations can ask for and no published model does."""
    config.require("hidden_act", "silu")
    config.require("linear_attention", "kda")
    config.require("gated_attention_proj_granularity_type", "head_wise")
    for key in ("score_function", "scoring_func"):
        config.require(key, "sigmoid")
    config.require("topk_method", "noaux_tc")
    for key in ("no_kda_lora", "rope_interleave", "moe_router_enable_expert_bias"):
        config.require(key, True)
    for key in ("use_kda_lora", "use_bias", "use_qkv_bias", "use_mla_nope", "use_nGPT", "value_norm", "up_proj_norm"):
        config.require(key, False)
    for key in ("expert_swiglu_limit_list", "share_expert_swiglu_limit_list"):
        if config.says_anything(key) and any(config.numbers(key)):
            raise config.refuse(key, "moedge holds the activations of all layers within one limit, or within none")


def _read_mixers(config: Config, layers: int) -> list[Mixer]:
    heads = config.integer("linear_num_heads", config.integer("num_attention_heads"))
    width = config.integer("linear_head_dim", config.integer("head_dim", 128))
    kernel = config.integer("short_conv_kernel_size", 4, least=2)
    delta_net = DeltaNet(
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        kernel=config.integer("linear_conv_kernel_dim", kernel, least=2),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        layout="kda_wide",
        channel_decay=True,
        gate="sigmoid",
        lower_bound=config.number("kda_lower_bound", -5.0) if config.flag("kda_safe_gate", True) else None,
    )
    latent = replace(read_latent(config, _read_rope(config)), gate=OutputGate("g_proj", "sigmoid", per_head=True))
    usual = every(FULL, config.integer("layer_group_size", 6), LINEAR_ATTENTION, layers)
    kinds = read_kinds(config, "layer_types", layers, usual, FULL, LINEAR_ATTENTION)
    return [latent if kind == FULL else delta_net for kind in kinds]


def _read_rope(config: Config) -> Rope:
    """All of qk_rope_head_dim turns: partial_rotary_factor is a share of another size, head_dim."""
    parameters, theta = config.section("rope_parameters"), config.number("rope_theta", 6e6)
    if parameters.says("rope_type", "default"):
        parameters.require_known(*ROPE_KEYS["default"])
        plain = {"rope_type": "default", "rope_theta": parameters.number("rope_theta", theta)}
        config = config.stating("rope_parameters", plain)
    dim = config.integer("qk_rope_head_dim")
    return read_rope(config.stating("partial_rotary_factor", 1.0), dim, interleaved=True, theta=theta)
