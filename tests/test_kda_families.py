"""Kimi Linear and Ling 3: what makers say otherwise than transformers writes it, and states that last for long."""

import json

import numpy as np
import pytest
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import BailingHybridConfig, KimiLinearConfig

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config
from moedge.export.model.config import MultiHeadLatent
from moedge.export.model.recurrent import DeltaNet
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

IDS = np.random.default_rng(0).integers(2, 211, 90)
COMMON = {
    "vocab_size": 211, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 512, "tie_word_embeddings": False, "pad_token_id": None, "bos_token_id": 0,
    "eos_token_id": 1, "initializer_range": 0.1, "num_experts": 8, "num_experts_per_tok": 3,
    "moe_intermediate_size": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16,
}  # fmt: skip
SMALL = {
    "kimi": KimiLinearConfig(**COMMON, num_hidden_layers=5, linear_head_dim=16, linear_num_heads=2),
    "ling": BailingHybridConfig(
        **COMMON, num_hidden_layers=4, layer_group_size=2, head_dim=16, n_group=2, topk_group=1, first_k_dense_replace=1
    ),
}
KIMI_LINEAR_48B = {
    "model_type": "kimi_linear", "first_k_dense_replace": 1, "head_dim": 72, "hidden_act": "silu",
    "hidden_size": 2304, "intermediate_size": 9216, "kv_lora_rank": 512,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32, "short_conv_kernel_size": 4,
        "kda_layers": [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26],
    },
    "mla_use_nope": True, "model_max_length": 1048576, "moe_intermediate_size": 1024, "moe_layer_freq": 1,
    "moe_renormalize": True, "moe_router_activation_func": "sigmoid", "num_attention_heads": 32,
    "num_expert_group": 1, "num_experts": 256, "num_experts_per_token": 8, "num_hidden_layers": 27,
    "num_key_value_heads": 32, "num_nextn_predict_layers": 0, "num_shared_experts": 1, "q_lora_rank": None,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "routed_scaling_factor": 2.446, "tie_word_embeddings": False, "topk_group": 1,
    "use_grouped_topk": True, "v_head_dim": 128, "vocab_size": 163840,
}  # fmt: skip
LING_3 = {
    "model_type": "bailing_hybrid", "first_k_dense_replace": 1, "gated_attention_proj_granularity_type": "head_wise",
    "head_dim": 128, "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 4608, "kda_lower_bound": -5,
    "kda_safe_gate": True, "kv_lora_rank": 512, "layer_group_size": 4, "max_position_embeddings": 131072,
    "moe_intermediate_size": 512, "moe_router_enable_expert_bias": True, "moe_shared_expert_intermediate_size": 512,
    "n_group": 8, "no_kda_lora": True, "norm_topk_prob": True, "num_attention_heads": 16, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 24, "num_key_value_heads": 16, "num_nextn_predict_layers": 0,
    "num_shared_experts": 1, "partial_rotary_factor": 0.5, "q_lora_rank": 256, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_interleave": True, "rope_theta": 6000000,
    "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 6000000, "rope_type": "default"},
    "routed_scaling_factor": 2.5, "score_function": "sigmoid", "short_conv_kernel_size": 4, "topk_group": 4,
    "tie_word_embeddings": False, "use_bias": False, "use_qkv_bias": False, "v_head_dim": 128, "vocab_size": 157184,
    "expert_swiglu_limit_list": None, "share_expert_swiglu_limit_list": [0.0] * 24,
}  # fmt: skip


def read(data):
    return read_model_config(Config(json.loads(json.dumps(data))))


def rewrite(folder, change):
    """The checkpoint with its tensors by name changed."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def export(checkpoint, scheme="fp32", plan="if"):
    """The bundle's folder."""
    bundle = checkpoint.with_name(f"{scheme}-{plan}")
    export_bundle(checkpoint, bundle, ExportOptions(parse_plan(scheme), plan, force=True))
    return bundle


@pytest.mark.parametrize("family", SMALL)
def test_states_that_last_a_whole_text(family, tmp_path):
    """Where next to nothing is forgotten, the last token's logits tell of the first one, and are transformers'."""

    def remember(tensors):
        low = {name: tensor * 0 - 4 for name, tensor in tensors.items() if name.endswith(("A_log", "dt_bias"))}
        return tensors | low

    tiny.save_checkpoint(SMALL[family], tmp_path / "checkpoint", 0)
    rewrite(tmp_path / "checkpoint", remember)
    model = tiny.load_checkpoint(tmp_path / "checkpoint")
    reference, other = (tiny.reference_logits(model, ids) for ids in (IDS, np.array([7, *IDS[1:]])))
    largest = np.abs(reference).max()
    assert np.abs(other - reference)[-1].max() > 1e-3 * largest

    engine = Engine.load(export(tmp_path / "checkpoint"))
    assert np.abs(engine.score(IDS.tolist()) - reference).max() < 5e-5 * largest
    session = engine.session()
    assert np.abs(session.prefill(IDS[:37].tolist()) - reference[36]).max() < 5e-5 * largest
    steps = np.stack([session.decode(int(token)) for token in IDS[37:]])
    assert np.abs(steps - reference[37:]).max() < 5e-5 * largest


def test_makers_count_layers_from_one():
    model = read(KIMI_LINEAR_48B | {"rope_scaling": None})
    full = [i for i, mixer in enumerate(model.mixers) if isinstance(mixer, MultiHeadLatent)]
    assert full == [3, 7, 11, 15, 19, 23, 26]
    assert all(isinstance(mixer, DeltaNet) for i, mixer in enumerate(model.mixers) if i not in full)
    assert model.moe_layers == tuple(range(1, 27))
    assert model == read(KimiLinearConfig(**KIMI_LINEAR_48B).to_dict())


def test_a_layer_that_is_neither_is_refused():
    linear = KIMI_LINEAR_48B["linear_attn_config"] | {"full_attn_layers": [4, 8, 12, 16, 20, 24]}
    with pytest.raises(MoedgeError, match=r"kda_layers = \[.*each of the 27 layers once"):
        read(KIMI_LINEAR_48B | {"linear_attn_config": linear})


def test_positions_turn_nothing_in_kimi_and_all_rotary_channels_in_ling():
    kimi, ling = read(KIMI_LINEAR_48B).mixers[3].rope, read(LING_3).mixers[3].rope
    cos, sin = kimi.tables(8)
    assert cos.shape == (8, 32)
    assert (cos == 1).all()
    assert (sin == 0).all()
    assert ling.dim == 64  # whatever partial_rotary_factor says
    assert ling.interleaved


def test_a_makers_ling_is_what_transformers_makes_of_it():
    model = read(LING_3)
    assert model == read(BailingHybridConfig(**LING_3 | {"kda_lower_bound": -5.0}).to_dict())
    assert [isinstance(mixer, MultiHeadLatent) for mixer in model.mixers] == [False, False, False, True] * 6
    assert model.mixers[0].lower_bound == -5
    assert read(LING_3 | {"kda_safe_gate": False}).mixers[0].lower_bound is None


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (KIMI_LINEAR_48B, "mla_use_nope", False),
        (KIMI_LINEAR_48B, "moe_router_activation_func", "softmax"),
        (KIMI_LINEAR_48B, "qk_rope_head_dim", 63),
        (LING_3, "no_kda_lora", False),
        (LING_3, "gated_attention_proj_granularity_type", "element_wise"),
        (LING_3, "use_qkv_bias", True),
        (LING_3, "expert_swiglu_limit_list", [0.0] * 23 + [4.0]),
    ],
)
def test_what_is_not_computed_is_refused(config, key, value):
    with pytest.raises(MoedgeError, match=f"{key} = "):
        read(config | {key: value})


def test_ling_2_is_told_from_ling_3():
    other = {key: value for key, value in LING_3.items() if "kda" not in key and key != "short_conv_kernel_size"}
    with pytest.raises(MoedgeError, match=r"a Ling 2\.5 or 2\.6, with layers of linear attention"):
        read(other | {"group_norm_size": 8, "linear_silu": False})


def test_a_makers_ling_has_another_name_for_a_delta_nets_output(tmp_path):
    """o_proj there and dense in latent attention, where transformers writes dense; and a layer more, of prediction."""
    tiny.save_checkpoint(SMALL["ling"], tmp_path / "checkpoint", 0)
    written = (export(tmp_path / "checkpoint") / "weights.bin").read_bytes()

    def as_makers(tensors):
        recurrent = {name.removesuffix("A_log") for name in tensors if name.endswith("A_log")}
        renamed = {}
        for name, tensor in tensors.items():
            place = name.removesuffix("dense.weight")
            renamed[f"{place}o_proj.weight" if place in recurrent else name] = tensor
        assert set(renamed) != set(tensors)
        return renamed | {"model.layers.4.eh_proj.weight": torch.zeros(64, 128)}

    rewrite(tmp_path / "checkpoint", as_makers)
    assert (export(tmp_path / "checkpoint") / "weights.bin").read_bytes() == written


def test_kimi_as_transformers_holds_it_in_memory(tmp_path):
    model = tiny.save_checkpoint(SMALL["kimi"], tmp_path / "checkpoint", 0)
    written = (export(tmp_path / "checkpoint") / "weights.bin").read_bytes()
    model.save_pretrained(tmp_path / "checkpoint", save_original_format=False)
    names = load_file(tmp_path / "checkpoint/model.safetensors")
    assert "model.layers.0.self_attn.forget_gate.f_a_proj.weight" in names
    assert "model.layers.0.self_attn.conv1d.weight" in names
    assert (export(tmp_path / "checkpoint") / "weights.bin").read_bytes() == written
