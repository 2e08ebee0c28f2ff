"""Nemotron 3: one mixer a layer, Mamba-2, attention without positions, or experts of relu² without gates.

Source: modeling_nemotron_h.py of transformers 5.24; Nemotron 3 Nano (arXiv:2512.20848).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import RELU2, Experts, Mixer, ModelConfig, Router
from moedge.export.model.layer_kinds import FULL, LINEAR_ATTENTION, read_kinds
from moedge.export.model.parts import read_decoder, read_grouped_query
from moedge.export.model.recurrent import Mamba2
from moedge.export.model.tensor_names import UNGATED, TensorNames

MODEL_TYPES = {"nemotron_h": "Nemotron 3 Nano 30B-A3B and Super 120B-A12B, Nemotron 3.5 Lightning"}
ATTENTION = "Mamba-2, grouped-query"
LEFT_OUT = "multi-token prediction"

LETTERS = {"M": LINEAR_ATTENTION, "E": "moe", "*": FULL, "-": "mlp"}  # of hybrid_override_pattern
MIXER = "model.layers.{layer}.mixer"


def read(config: Config) -> ModelConfig:
    """The model that a nemotron_h config.json describes."""
    for key in ("attention_bias", "mlp_bias"):
        config.require(key, False)
    config.require("mlp_hidden_act", "relu2")
    config.require("mamba_hidden_act", "silu")
    if config.has("sliding_window"):
        raise config.refuse("sliding_window", "no published model of this type has one")
    config = config.spelled("n_routed_experts", "num_local_experts", "num_experts")
    config = config.spelled("layers_block_type", "layer_types")
    kinds = _read_kinds(config)
    attention = replace(read_grouped_query(config.stating("rope_parameters", None), 8, 128), rope=None)
    mamba = _read_mamba(config)
    mixers: list[Mixer | None] = [
        mamba if kind == LINEAR_ATTENTION else attention if kind == FULL else None for kind in kinds
    ]
    model = read_decoder(
        config.otherwise("max_position_embeddings", 4096).otherwise("intermediate_size", 21504),
        mixers=mixers,
        experts=Experts(
            num_experts=config.integer("n_routed_experts", 8),
            num_experts_per_tok=config.integer("num_experts_per_tok", 2),
            intermediate_size=config.integer("moe_intermediate_size", 7688),
            gate=RELU2,
            # one module, however many experts n_shared_experts says that they are
            shared_intermediate_size=config.integer("moe_shared_expert_intermediate_size", 7688),
            latent_size=config.count("moe_latent_size", 0),
            router=Router(
                scoring="sigmoid",
                normalize=config.flag("norm_topk_prob", True),
                correction_bias=True,
                n_group=config.integer("n_group", 1),
                topk_group=config.integer("topk_group", 1),
                scale=config.number("routed_scaling_factor", 1.0),
            ),
        ),
        moe_layers=tuple(i for i, kind in enumerate(kinds) if kind == "moe"),
    )
    return replace(
        model,
        norm_eps=config.spelled("layer_norm_epsilon", "norm_eps").number("layer_norm_epsilon", 1e-5),
        bare_layers=tuple(i for i, kind in enumerate(kinds) if kind in (LINEAR_ATTENTION, FULL)),
        mlp_gate=RELU2,
        names=TensorNames(
            embedding="model.embeddings",
            final_norm="model.norm_f",
            input_norm="model.layers.{layer}.norm",
            post_attention_norm="model.layers.{layer}.norm",
            attention=MIXER,
            recurrent=MIXER,
            mlp=MIXER,
            moe=MIXER,
            router=f"{MIXER}.gate",
            correction_bias=f"{MIXER}.gate.e_score_correction_bias",
            experts=UNGATED.within("experts.{expert}."),
            shared_expert=f"{MIXER}.shared_experts",
            parts=UNGATED,
        ).ignoring(r"(model\.)?mtp\..*"),
    )


def _read_kinds(config: Config) -> tuple[str, ...]:
    """What each layer is, by letters or by names; how many there are is how many are named."""
    pattern = config.text("hybrid_override_pattern", "")
    if unknown := set(pattern) - set(LETTERS):
        raise config.refuse("hybrid_override_pattern", f"moedge does not know {', '.join(sorted(unknown))}")
    usual = [LETTERS[letter] for letter in pattern] or [LINEAR_ATTENTION, "moe", FULL, "mlp"]
    layers = config.integer("num_hidden_layers", len(config.texts("layers_block_type") or usual))
    if pattern and len(pattern) != layers:
        raise config.refuse("hybrid_override_pattern", f"it must have a letter for each of the {layers} layers")
    kinds = read_kinds(config, "layers_block_type", layers, usual, LINEAR_ATTENTION, FULL, "moe", "mlp")
    if pattern and kinds != tuple(usual):
        raise config.refuse("hybrid_override_pattern", "layers_block_type says otherwise: keep one")
    return kinds


def _read_mamba(config: Config) -> Mamba2:
    groups = config.spelled("n_groups", "mamba_n_groups").integer("n_groups", 8)
    heads = config.integer("mamba_num_heads", 128)
    if heads % groups:
        raise config.refuse("n_groups", f"{heads} heads in {groups} groups cannot be")
    return Mamba2(
        heads=heads,
        head_dim=config.integer("mamba_head_dim", 64),
        groups=groups,
        state_size=config.integer("ssm_state_size", 128),
        kernel=config.spelled("conv_kernel", "mamba_d_conv").integer("conv_kernel", 4, least=2),
        norm_eps=config.spelled("layer_norm_epsilon", "norm_eps").number("layer_norm_epsilon", 1e-5),
        norm_groups=groups,
        bias=config.flag("use_bias", False),
        kernel_bias=config.spelled("use_conv_bias", "mamba_conv_bias").flag("use_conv_bias", True),
        time_step_limit=config.spelled("time_step_limit", "mamba_dt_limit").limits("time_step_limit"),
    )
