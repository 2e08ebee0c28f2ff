"""A key that a config.json leaves out means what it means in transformers, in every family."""

import json

import pytest
import tiny_families

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config

# What moedge asks for by name, because transformers' default is one model's size and no convention.
SIZES = {
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
    "max_position_embeddings", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
    "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok", "num_experts",
}  # fmt: skip
# null and absent are the same to moedge; DeepSeek's q_lora_rank is written as null where there is none
MEANT_AS_NONE = {"q_lora_rank"}
NESTED = {"text_config"}  # without it a config of several kinds of input says nothing of a decoder


@pytest.mark.parametrize("family", [name for name in tiny_families.MAKERS if name != "kimi_k25"])
def test_absent_keys(family):
    config = tiny_families.MAKERS[family]()
    data = json.loads(config.to_json_string(use_diff=False))
    for key in sorted(set(data) - SIZES - MEANT_AS_NONE - NESTED):
        rest = {k: v for k, v in data.items() if k != key}
        try:
            whole = json.loads(type(config)(**rest).to_json_string(use_diff=False))
        except Exception:  # a key that transformers cannot do without has no default
            continue
        try:
            expected = read_model_config(Config(whole))
        except MoedgeError:
            continue
        assert read_model_config(Config(rest)) == expected, key
