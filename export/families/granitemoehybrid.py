"""Granite 4 hybrid: Mamba-2 with a few layers of attention without positions, Granite's multipliers, shared experts.

Source: modeling_granitemoehybrid.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.granitemoe import read as read_granite
from moedge.export.model.config import GroupedQuery, Mixer, ModelConfig
from moedge.export.model.layer_kinds import FULL, LINEAR_ATTENTION, read_kinds
from moedge.export.model.recurrent import Mamba2

MODEL_TYPES = {"granitemoehybrid": "Granite 4.0 H Tiny and H Small"}
ATTENTION = "Mamba-2, grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a granitemoehybrid config.json describes."""
    config.require("position_embedding_type", "nope", "rope")
    config.require("normalization_function", "rmsnorm")
    config = config.spelled("num_local_experts", "num_experts").spelled("layer_types", "layers_block_type")
    if config.says("num_local_experts", 0):
        raise config.refuse("num_local_experts", "a model without experts is none that moedge makes faster")
    rotates = config.says("position_embedding_type", "rope")
    model = read_granite(config.otherwise("shared_intermediate_size", 1024).stating("position_embedding_type", "rope"))
    layers = model.num_hidden_layers
    kinds = read_kinds(config, "layer_types", layers, [LINEAR_ATTENTION] * layers, FULL, LINEAR_ATTENTION)
    mamba = _read_mamba(config)
    mixers: list[Mixer | None] = [
        mamba if kind == LINEAR_ATTENTION else mixer for kind, mixer in zip(kinds, model.mixers, strict=True)
    ]
    if not rotates:
        mixers = [replace(mixer, rope=None) if isinstance(mixer, GroupedQuery) else mixer for mixer in mixers]
    return replace(model, mixers=tuple(mixers), names=replace(model.names, recurrent="model.layers.{layer}.mamba"))


def _read_mamba(config: Config) -> Mamba2:
    heads, hidden = config.integer("mamba_n_heads", 128), config.integer("hidden_size")
    inner = config.integer("mamba_expand", 2) * hidden
    config = config.stating("mamba_d_head", None) if config.says("mamba_d_head", "auto") else config
    head_dim = config.integer("mamba_d_head", inner // heads)
    if heads * head_dim != inner:
        raise config.refuse("mamba_d_head", f"{heads} heads of {head_dim} are not mamba_expand times hidden_size")
    groups = config.integer("mamba_n_groups", 1)
    if heads % groups:
        raise config.refuse("mamba_n_groups", f"{heads} heads in {groups} groups cannot be")
    return Mamba2(
        heads=heads,
        head_dim=head_dim,
        groups=groups,
        state_size=config.integer("mamba_d_state", 256),
        kernel=config.integer("mamba_d_conv", 4, least=2),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        norm_groups=groups,
        bias=config.flag("mamba_proj_bias", False),
        kernel_bias=config.flag("mamba_conv_bias", True),
        time_step_limit=config.limits("time_step_limit"),
    )
