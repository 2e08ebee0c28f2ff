"""config.json of every family as published: read whole, with the right facts, and rotated as in transformers."""

from importlib import import_module

import numpy as np
import pytest
import torch
from published_configs import EXTRA, GPT_OSS_20B, PUBLISHED
from transformers import AutoConfig

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config
from moedge.export.model.config import GroupedQuery, ShortConvolution

A_LAYER_TYPE = {"sliding_attention": {"rope_theta": 1e4}}
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


def first_attention(model):
    return next(mixer for mixer in model.mixers if not isinstance(mixer, ShortConvolution))


@pytest.mark.parametrize("name", PUBLISHED)
def test_attention_as_in_transformers(name):
    data = PUBLISHED[name].config
    ours, (config, module) = first_attention(read(data)), theirs(data)
    rotary = next(kind for key, kind in vars(module).items() if key.endswith("RotaryEmbedding"))(config)
    magnitude = config.rope_parameters.get("short_mscale", rotary.attention_scaling)
    angles = torch.arange(3000)[:, None].float() * rotary.inv_freq
    for table, reference in zip(ours.rope.tables(3000), (angles.cos(), angles.sin()), strict=True):
        assert np.abs(table - magnitude * reference.numpy()).max() < 2e-3  # 3000 radians hold fp32 no closer
    attention = next(kind for key, kind in vars(module).items() if key.endswith("Attention"))
    with torch.device("meta"):
        assert ours.scale == pytest.approx(attention(config, 0).scaling)


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
