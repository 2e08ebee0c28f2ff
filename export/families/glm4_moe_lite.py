"""GLM-4.7-Flash: DeepSeek-V3's latent attention and router, with other defaults, and dense layers by name.

Source: modeling_glm4_moe_lite.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.deepseek_v3 import read as read_alike
from moedge.export.model.config import ModelConfig

MODEL_TYPES = {"glm4_moe_lite": "GLM-4.7-Flash"}
ATTENTION = "latent"
LEFT_OUT = "multi-token prediction"
DEFAULTS = {
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.8,
    "first_k_dense_replace": 1,
    "rms_norm_eps": 1e-5,
}


def read(config: Config) -> ModelConfig:
    """The model that a glm4_moe_lite config.json describes."""
    config = config.spelled("qk_rope_head_dim", "head_dim")  # as transformers' class takes the one for the other
    for key, value in DEFAULTS.items():
        config = config.otherwise(key, value)
    model = read_alike(config)
    types = config.texts("mlp_layer_types")
    if not types:
        return model
    config.require_each("mlp_layer_types", "dense", "sparse")
    if len(types) != model.num_hidden_layers:
        raise config.refuse("mlp_layer_types", f"it must name each of the {model.num_hidden_layers} layers")
    return replace(model, moe_layers=tuple(i for i, kind in enumerate(types) if kind == "sparse"))
