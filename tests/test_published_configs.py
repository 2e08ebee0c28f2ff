"""config.json of every family as published: read whole, with the right facts, and rotated as in transformers."""

from importlib import import_module

import numpy as np
import pytest
import torch
from published_configs import EXTRA, GPT_OSS_20B, PUBLISHED
from published_hybrids import FULL, LINEAR, SLIDING
from transformers import AutoConfig

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config
from moedge.export.model.config import Attention, GroupedQuery, ShortConvolution
from moedge.export.model.recurrent import DeltaNet, Mamba2

A_LAYER_TYPE = {"sliding_attention": {"rope_theta": 1e4}}
# those that do not rotate in layers that look at the whole context, or in any
WITHOUT_POSITIONS = (
    "Granite-4.0-H-Tiny", "Granite-4.0-H-Small", "Nemotron-3-Nano", "Nemotron-3-Super", "North-Mini-Code-1.0",
    "Trinity-Mini", "Trinity-Nano",
)  # fmt: skip
ZERO_FACTORS = {"type": "longrope", "short_factor": [0] * 64, "long_factor": [1] * 64}


def read(data, **changes):
    return read_model_config(Config(EXTRA | data | changes))


def theirs(data):
    """transformers' configuration of the text model, and the module that models it."""
    text = data.get("text_config", data)
    kind = text["model_type"].replace("kimi_k2", "deepseek_v3")
    # it has no default for null here, and no meaning beyond one group
    values = {key: 1 if key in ("n_group", "topk_group") and value is None else value for key, value in text.items()}
    config = AutoConfig.for_model(kind, **{k: v for k, v in values.items() if k != "model_type"})
    module = kind.removesuffix("_text")
    return config, import_module(f"transformers.models.{module}.modeling_{module}")


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_it_is(name):
    published = PUBLISHED[name]
    model = read(published.config)
    assert len(model.moe_layers) == published.moe_layers
    assert (model.experts.num_experts, model.experts.num_experts_per_tok) == (published.experts, published.per_token)
    assert model.experts.router.scale == published.scale
    windows = [mixer for mixer in model.mixers if isinstance(mixer, GroupedQuery) and mixer.window]
    assert len(windows) == published.windows


def find_class(module, ending):
    """transformers' class of that ending for text."""
    kinds = (kind for key, kind in vars(module).items() if key.endswith(ending))
    return next(kind for kind in kinds if not any(other in kind.__name__ for other in ("Vision", "Audio")))


def read_rotary(config, module, layer):
    """A layer's inverse frequencies and magnitude as transformers has them, of its kind of layer if these differ."""
    rotary = find_class(module, "RotaryEmbedding")(config)
    if hasattr(rotary, "inv_freq"):
        return rotary.inv_freq, config.rope_parameters.get("short_mscale", rotary.attention_scaling)
    kind = config.layer_types[layer]
    return getattr(rotary, f"{kind}_inv_freq"), getattr(rotary, f"{kind}_attention_scaling")


@pytest.mark.parametrize("name", PUBLISHED)
def test_attention_as_in_transformers(name):
    """Of every kind of attention that the model has, its first layer."""
    data = PUBLISHED[name].config
    model, (config, module) = read(data), theirs(data)
    kinds = {mixer: layer for layer, mixer in reversed([*enumerate(model.mixers)]) if isinstance(mixer, Attention)}
    assert kinds
    for ours, layer in kinds.items():
        heads = [ours.num_heads] if config.model_type == "laguna" else []
        with torch.device("meta"):
            assert ours.scale == pytest.approx(find_class(module, "Attention")(config, layer, *heads).scaling)
        if ours.rope is None:
            assert name in WITHOUT_POSITIONS
            continue
        inverse, magnitude = read_rotary(config, module, layer)
        angles = torch.arange(3000)[:, None].float() * inverse
        for table, reference in zip(ours.rope.tables(3000), (angles.cos(), angles.sin()), strict=True):
            assert np.abs(table - magnitude * reference.numpy()).max() < 2e-3  # 3000 radians hold fp32 no closer


def test_layers_of_each_kind():
    assert [mixer.window for mixer in read(GPT_OSS_20B).mixers] == [128, 0] * 12
    lfm2 = read(PUBLISHED["LFM2-8B-A1B"].config)
    assert lfm2.moe_layers == tuple(range(2, 24))
    assert sum(isinstance(mixer, ShortConvolution) for mixer in lfm2.mixers) == 18
    assert read(PUBLISHED["ERNIE-4.5-21B-A3B-PT"].config).moe_layers == tuple(range(1, 28))
    phi = read(PUBLISHED["Phi-3.5-MoE"].config).mixers[0].rope
    assert (phi.switches(4096), phi.switches(8192)) == (0, 4096)
    kimi = read(PUBLISHED["Kimi-K2.5"].config)
    assert (kimi.vocab_size, kimi.tie_word_embeddings) == (163840, False)
    assert not read(PUBLISHED["Kimi-VL-A3B"].config).tie_word_embeddings


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("gpt-oss-20b", {"layer_types": ["full_attention"]}, "each of the 24 layers"),
        ("gpt-oss-20b", {"rope_scaling": {"rope_type": "llama3"}}, "no low_freq_factor"),
        ("gpt-oss-20b", {"rope_scaling": {"rope_type": "yarn", "factor": 0}}, "factor = 0: it must be above 0"),
        ("gpt-oss-20b", {"rope_scaling": {"rope_type": "yarn", "beta_fst": 32}}, "has beta_fst"),
        ("gpt-oss-20b", {"rope_parameters": A_LAYER_TYPE, "rope_scaling": None}, "has sliding_attention"),
        ("gpt-oss-20b", {"rope_scaling": {"rope_type": "yarn", "beta_slow": -1}}, "beta_slow"),
        ("Qwen1.5-MoE-A2.7B", {"layer_types": ["sliding_attention"] * 24}, "use_sliding_window"),
        ("dots.llm1", {"layer_types": ["sliding_attention"] * 62}, "sliding_window does not say"),
        ("dots.llm1", {"scoring_func": "softmax"}, "scoring_func"),
        ("dots.llm1", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("GLM-4.5-Air", {"topk_method": "greedy"}, "topk_method"),
        ("GLM-4.7-Flash", {"mlp_layer_types": ["dense", "sparse"]}, "each of the 47 layers"),
        ("GLM-4.7-Flash", {"mlp_layer_types": ["hash"] * 47}, "mlp_layer_types"),
        ("GLM-4.5V", {"text_config": {"model_type": "glm4"}}, "text_config asks for model_type = 'glm4'"),
        ("GLM-4.5V", {"text_config": {"use_qk_norm": True}}, "use_qk_norm"),
        ("Kimi-VL-A3B", {"text_config": {"model_type": "qwen3_moe"}}, "text_config asks for model_type = 'qwen3_moe'"),
        ("ERNIE-4.5-21B-A3B-PT", {"moe_gate_act": "sigmoid"}, "moe_gate_act"),
        ("ERNIE-4.5-21B-A3B-PT", {"compression_ratio": 2.0}, "compression_ratio"),
        ("Phi-3.5-MoE", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "longrope"),
        ("Phi-3.5-MoE", {"rope_scaling": ZERO_FACTORS}, "short_factor .* must be above 0"),
    ],
)  # fmt: skip
def test_what_would_change_the_mathematics_is_refused(name, changes, match):
    with pytest.raises(MoedgeError, match=match):
        read(PUBLISHED[name].config, **changes)


def test_other_spellings():
    ernie = {k: v for k, v in PUBLISHED["ERNIE-4.5-21B-A3B-PT"].config.items() if k != "moe_k"}
    assert read(ernie, num_experts_per_tok=5).experts.num_experts_per_tok == 5
    granite = PUBLISHED["Granite-3.1-1B-A400M"].config
    assert read(granite, attention_multiplier=None).mixers[0].scale == 64**-0.5


def test_layers_of_recurrent_models():
    qwen, coder = (read(PUBLISHED[name].config) for name in ("Qwen3.6-35B-A3B", "Qwen3-Coder-Next"))
    net = DeltaNet(16, 32, 128, 128, 4, 1e-6, "split")
    assert [isinstance(mixer, GroupedQuery) for mixer in qwen.mixers] == [False, False, False, True] * 10
    assert qwen.mixers[0] == net
    assert coder.mixers[0] == DeltaNet(16, 32, 128, 128, 4, 1e-6, "grouped")
    assert (qwen.mixers[3].rope.dim, qwen.mixers[3].num_kv_heads, qwen.norm_offset) == (64, 2, 1.0)
    nano, granite = (read(PUBLISHED[name].config) for name in ("Nemotron-3-Nano", "Granite-4.0-H-Tiny"))
    assert nano.mixers[0] == Mamba2(64, 64, 8, 128, 4, 1e-5, 8)
    assert granite.mixers[0] == Mamba2(48, 64, 1, 128, 4, 1e-5, 1)
    assert [sum(isinstance(m, kind) for m in nano.mixers) for kind in (Mamba2, GroupedQuery)] == [23, 6]
    assert [i for i, m in enumerate(granite.mixers) if isinstance(m, GroupedQuery)] == [5, 15, 25, 35]
    assert read(PUBLISHED["Nemotron-3-Super"].config).experts.latent_size == 1024


def test_heads_of_each_kind_of_layer():
    gemma = read(PUBLISHED["Gemma-4-26B-A4B"].config)
    near, far = gemma.mixers[0], gemma.mixers[5]
    assert [(m.num_kv_heads, m.head_dim, m.value_is_key) for m in (near, far)] == [(8, 256, False), (2, 512, True)]
    laguna = read(PUBLISHED["Laguna-XS-2.1"].config)
    assert [(m.num_heads, m.rope.dim, m.window) for m in laguna.mixers[:2]] == [(48, 64, 0), (64, 128, 512)]
    assert laguna.moe_layers == tuple(range(1, 40))
    north = read(PUBLISHED["North-Mini-Code-1.0"].config)
    assert [m.rope is None for m in north.mixers[:5]] == [False, False, False, False, True]  # a dense layer rotates
    assert (north.norm, north.intermediate_size, north.experts.router.normalize) == ("rms", 3072, False)


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("Qwen3.6-35B-A3B", {"layer_types": [LINEAR] * 39}, "each of the 40 layers"),
        ("Qwen3.6-35B-A3B", {"layer_types": ["mamba", *[FULL] * 38, "sliding"]}, "knows .* and not 'sliding'"),
        ("Qwen3.6-35B-A3B", {"attn_output_gate": False}, "attn_output_gate"),
        ("Qwen3.6-35B-A3B", {"mlp_only_layers": [0]}, "mlp_only_layers"),
        ("Qwen3.6-35B-A3B", {"linear_conv_kernel_dim": 1}, "linear_conv_kernel_dim"),
        ("Qwen3-Coder-Next", {"linear_num_value_heads": "32"}, "linear_num_value_heads"),
        ("Granite-4.0-H-Tiny", {"num_local_experts": 0}, "without experts"),
        ("Granite-4.0-H-Tiny", {"layer_types": ["mamba", "attention"]}, "each of the 40 layers"),
        ("Granite-4.0-H-Tiny", {"layer_types": ["mamba"] * 39 + ["recurrent"]}, "not 'recurrent'"),
        ("Granite-4.0-H-Tiny", {"mamba_d_head": 32}, "48 heads of 32 are not mamba_expand times hidden_size"),
        ("Granite-4.0-H-Tiny", {"position_embedding_type": "alibi"}, "position_embedding_type"),
        ("Granite-4.0-H-Tiny", {"time_step_limit": [0.5, 0.1]}, "time_step_limit .* nor above the second"),
        ("Nemotron-3-Nano", {"hybrid_override_pattern": "MXM*" * 13}, r"hybrid_override_pattern .* does not know X"),
        ("Nemotron-3-Nano", {"hybrid_override_pattern": "ME*"}, "a letter for each of the 52 layers"),
        ("Nemotron-3-Nano", {"layers_block_type": ["mamba"] * 52}, "layers_block_type says otherwise: keep one"),
        ("Nemotron-3-Nano", {"mlp_hidden_act": "silu"}, "mlp_hidden_act"),
        ("Nemotron-3-Nano", {"sliding_window": 512}, "sliding_window"),
        ("Gemma-4-26B-A4B", {"enable_moe_block": False}, "without experts"),
        ("Gemma-4-26B-A4B", {"hidden_size_per_layer_input": 256}, "hidden_size_per_layer_input"),
        ("Gemma-4-26B-A4B", {"num_kv_shared_layers": 10}, "num_kv_shared_layers"),
        ("Gemma-4-26B-A4B", {"rope_parameters": {FULL: {"rope_theta": 1e6}}}, "for its layers of sliding_attention"),
        ("Mellum2-12B-A2.5B", {"rope_parameters": {SLIDING: {"rope_theta": 1e6}}}, "for its layers of full_attention"),
        ("Mellum2-12B-A2.5B", {"mlp_layer_types": ["sparse"]}, "each of the 28 layers"),
        ("North-Mini-Code-1.0", {"expert_selection_fn": "entmax"}, "expert_selection_fn"),
        ("North-Mini-Code-1.0", {"use_qk_norm": True}, "use_qk_norm"),
        ("Laguna-XS-2.1", {"num_attention_heads_per_layer": [48]}, "each of the 40 layers"),
        ("Laguna-XS-2.1", {"gating": "per-block"}, "gating"),
        ("Laguna-XS-2.1", {"norm_topk_prob": False}, "norm_topk_prob"),
        ("Trinity-Mini", {"score_func": "softmax"}, "score_func"),
        ("Trinity-Mini", {"num_expert_groups": 4}, "num_expert_groups"),
        ("Granite-Swash-3B-A600M", {"layer_rope_theta": [1e4, 0]}, "each of the 28 layers"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_layer_by_layer_is_refused(name, changes, match):
    data = PUBLISHED[name].config
    inner = {"text_config": data["text_config"] | changes} if "text_config" in data else changes
    with pytest.raises(MoedgeError, match=match) as caught:
        read(data, **inner)
    assert str(caught.value).endswith(".")


def test_dense_layers_by_number_as_makers_write_them():
    config = {k: v for k, v in PUBLISHED["Laguna-XS-2.1"].config.items() if k != "mlp_layer_types"}
    assert read(config, mlp_only_layers=[0, 1, 2]).moe_layers == tuple(range(3, 40))
    assert read(config, mlp_only_layers=[]).moe_layers == tuple(range(40))
