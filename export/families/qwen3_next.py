"""Qwen3-Next: gated delta nets, whose projections stand together by key head, with gated attention between them.

Source: modeling_qwen3_next.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.qwen3_5_moe import read_mixers
from moedge.export.model.config import Experts, ModelConfig, Router
from moedge.export.model.parts import read_decoder
from moedge.export.model.tensor_names import TensorNames

MODEL_TYPES = {"qwen3_next": "Qwen3-Next-80B-A3B, Qwen3-Coder-Next"}
ATTENTION = "delta net, grouped-query"
LEFT_OUT = "multi-token prediction"


def read(config: Config) -> ModelConfig:
    """The model that a qwen3_next config.json describes."""
    config = config.spelled("num_experts", "num_local_experts")
    layers = config.integer("num_hidden_layers")
    dense, step = config.integers("mlp_only_layers"), config.integer("decoder_sparse_step", 1)
    model = read_decoder(
        config,
        mixers=read_mixers(config, "grouped"),
        experts=Experts(
            num_experts=config.integer("num_experts", 512),
            num_experts_per_tok=config.integer("num_experts_per_tok", 10),
            intermediate_size=config.integer("moe_intermediate_size", 512),
            router=Router(scoring="softmax", normalize=config.flag("norm_topk_prob", True)),
            shared_intermediate_size=config.count("shared_expert_intermediate_size", 512),
            shared_gate=True,
        ),
        moe_layers=tuple(i for i in range(layers) if i not in dense and (i + 1) % step == 0),
    )
    names = TensorNames(shared_expert="model.layers.{layer}.mlp.shared_expert").ignoring(r"mtp\..*")
    return replace(model, norm_offset=1.0, names=names)
