"""gpt-oss: attention with sinks and a sliding window in every second layer, clipped SwiGLU, biases everywhere.

Source: modeling_gpt_oss.py of transformers 5.23; gpt-oss model card (arXiv:2508.10925).
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.model.config import Experts, Gate, ModelConfig, Router
from moedge.export.model.parts import read_decoder, read_grouped_query, slide, sliding_layers
from moedge.export.model.tensor_names import JOINT, TensorNames

# what a config without rotary parameters means
YARN = {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    "original_max_position_embeddings": 4096,
}  # fmt: skip

MODEL_TYPES = {"gpt_oss": "gpt-oss-20b, gpt-oss-120b"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a gpt_oss config.json describes."""
    config.require("hidden_act", "silu")
    config = config.spelled("num_local_experts", "num_experts").spelled("num_experts_per_tok", "experts_per_token")
    layers = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias", True)
    attention = replace(
        read_grouped_query(
            config.otherwise("rope_parameters", YARN), 8, None if config.mentions("head_dim") else 64, theta=150000.0
        ),
        bias=bias,
        output_bias=bias,
        sinks=True,
    )
    sliding = sliding_layers(config, tuple(range(0, layers, 2)))
    return replace(
        read_decoder(
            config,
            mixers=slide(attention, layers, config.integer("sliding_window", 128), sliding),
            experts=Experts(
                num_experts=config.integer("num_local_experts", 128),
                num_experts_per_tok=config.integer("num_experts_per_tok", 4),
                intermediate_size=config.integer("intermediate_size"),
                router=Router(scoring="softmax", normalize=True, bias=True),
                gate=Gate(
                    alpha=config.number("swiglu_alpha", 1.702), beta=1.0, limit=config.number("swiglu_limit", 7.0)
                ),
                bias=True,
            ),
            moe_layers=tuple(range(layers)),
            norm_eps=1e-5,
        ),
        names=TensorNames(
            router="model.layers.{layer}.mlp.router",
            experts=JOINT.within("experts."),
            joint_rows="in_turn",
        ),
    )
