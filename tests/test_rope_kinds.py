"""Every way of scaling rotary frequencies, in either spelling: tables as in transformers, and by hand beyond it."""

import math

import numpy as np
import pytest
import torch
from published_configs import PUBLISHED
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralRotaryEmbedding

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config

MIXTRAL = PUBLISHED["Mixtral-8x7B-Instruct-v0.1"].config  # heads of 128, theta 1e6, 32,768 positions
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
V3_YARN = {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}


def read(name="Mixtral-8x7B-Instruct-v0.1", **changes):
    return read_model_config(Config({k: v for k, v in (PUBLISHED[name].config | changes).items() if v is not ...}))


def tables(name="Mixtral-8x7B-Instruct-v0.1", length=2000, **changes):
    return read(name, **changes).mixers[0].rope.tables(length)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": LLAMA3, "rope_theta": 5e5, "max_position_embeddings": 131072},
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": ...}},
        {"rope_scaling": ..., "rope_theta": ..., "rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
        {"rope_scaling": LLAMA3 | {"factor": 32, "low_freq_factor": 1, "high_freq_factor": 32}},
        {"rope_scaling": LLAMA3 | {"factor": 0.5}},
        {"rope_scaling": {"type": "linear", "factor": 4}},
        {"rope_scaling": ..., "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 8.0, "original_max_position_embeddings": 32768}},
        {"rope_scaling": YARN},
        {"rope_scaling": YARN | {"attention_factor": 1.25}},
        {"rope_scaling": YARN | {"attention_factor": None, "finetuned": True}},
        {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 0.4}},
        {"rope_scaling": YARN | {"attn_factor": 1.0, "extrapolation_factor": 1.0}},
        {"rope_scaling": {"type": "default"}},
        {"rope_scaling": {"rope_type": "default", "type": None, "factor": None}},
        {"rope_scaling": {"factor": 1.0}},
        {"rope_scaling": {}},
    ],
)  # fmt: skip
def test_tables_as_in_transformers(changes):
    changes = {
        key: {k: v for k, v in value.items() if v is not ...} if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    data = {k: v for k, v in (MIXTRAL | changes).items() if v is not ... and k != "model_type"}
    rotary = MixtralRotaryEmbedding(MixtralConfig(**data, head_dim=128))  # yarn has no other size for null there
    cos, sin = rotary(torch.zeros(1), torch.arange(2000)[None])
    for table, reference in zip(tables(**changes), (cos, sin), strict=True):
        assert np.abs(table - reference[0, :, :64].numpy()).max() < 1e-3  # 2000 radians hold fp32 no closer


def test_llama3_by_hand():
    """Waves of 6.3 … positions: the first half turn as they did, the last eight times slower."""
    angles = np.arccos(tables(length=2, rope_scaling=LLAMA3, rope_theta=5e5)[0][1].astype(np.float64))
    plain = 5e5 ** -(np.arange(64) / 64)
    assert np.allclose(angles[:10], plain[:10], atol=1e-6)
    assert np.allclose(angles[-20:], plain[-20:] / 8, atol=1e-3)
    sines = tables(length=2, rope_scaling=LLAMA3, rope_theta=5e5)[1][1].astype(np.float64)
    assert np.allclose(sines[-20:], plain[-20:] / 8, rtol=1e-5)
    # dimension 31: a wave of 3,626 positions turns 2.26 times in 8,192, 0.42 of the way from 1 to 4
    share = (8192 * plain[31] / (2 * math.pi) - 1) / 3
    assert 0.4 < share < 0.45
    assert sines[31] == pytest.approx(plain[31] * (share + (1 - share) / 8), rel=1e-5)


def test_the_authors_factors_of_yarn():
    """The whole magnitude times attn_factor, also where transformers does not look at it."""
    plain, strong = tables(rope_scaling=YARN), tables(rope_scaling=YARN | {"attn_factor": 1.5})
    assert np.allclose(plain[0][0], 0.1 * math.log(4) + 1)
    assert np.allclose(strong[0], 1.5 * plain[0], atol=1e-6)
    assert np.allclose(strong[1], 1.5 * plain[1], atol=1e-6)
    # nothing of the unscaled frequencies is left: all are a fourth
    none = tables(rope_scaling=YARN | {"extrapolation_factor": 0}, length=200)
    linear = tables(rope_scaling={"type": "linear", "factor": 4.0}, length=200)
    assert np.allclose(none[0], (0.1 * math.log(4) + 1) * linear[0], atol=1e-5)
    # half of them where the ramp leaves all: 1/2 + 1/2 · 1/4
    half = tables(rope_scaling=YARN | {"extrapolation_factor": 0.5}, length=2)
    assert half[1][1, 0] == pytest.approx((0.1 * math.log(4) + 1) * math.sin(0.625), rel=1e-6)


@pytest.mark.parametrize(
    ("mscales", "magnitude", "sharpened"),
    [
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, 1.0, 0.0707 * math.log(40) + 1),
        ({"mscale": 0.707}, 0.0707 * math.log(40) + 1, 1.0),
        ({"mscale_all_dim": 0.5}, (0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1), 0.05 * math.log(40) + 1),
        ({"mscale": 0.5, "mscale_all_dim": 0}, 0.05 * math.log(40) + 1, 1.0),
        ({}, 0.1 * math.log(40) + 1, 1.0),
    ],
)  # fmt: skip
def test_one_mscale_alone_counts_as_in_deepseeks_own_code(mscales, magnitude, sharpened):
    attention = read("DeepSeek-V2-Lite", rope_scaling=V3_YARN | mscales).mixers[0]
    assert attention.rope.tables(1)[0] == pytest.approx(magnitude)
    assert attention.scale == pytest.approx(192**-0.5 * sharpened**2)


@pytest.mark.parametrize(
    ("scaling", "match"),
    [
        (LLAMA3 | {"low_freq_factor": 4.0}, r"low_freq_factor = 4\.0: it must be below high_freq_factor \(4\)"),
        (LLAMA3 | {"low_freq_factor": 0}, "low_freq_factor = 0: it must be above 0"),
        (LLAMA3 | {"factor": None}, "has no factor"),
        (LLAMA3 | {"attention_factor": 1.5}, "has attention_factor, which moedge does not know there"),
        ({"type": "linear"}, "has no factor"),
        ({"type": "linear", "factor": -1}, "factor = -1: it must be above 0"),
        ({"type": "linear", "factor": 2.0, "attn_factor": 1.0}, "has attn_factor"),
        ({"type": "dynamic", "factor": 2.0, "alpha": 1000.0}, "has alpha"),
        ({"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 4096}, r"must not be below .*32768"),
        ({"type": "dynamic"}, "has no factor"),
        ({"factor": 8.0}, r"factor = 8\.0: there is no rope_type"),
        ({"rope_type": None, "factor": 4, "original_max_position_embeddings": 8192}, "there is no rope_type"),
        (YARN | {"attn_factor": 1.5, "attention_factor": 1.5}, "keep one"),
        (YARN | {"attention_factor": 0}, "attention_factor = 0: it must be above 0"),
        ({"type": "mrope", "mrope_section": [1, 2]}, "'llama3' and 'linear' and 'proportional' and 'dynamic'"),
    ],
)  # fmt: skip
def test_refusals(scaling, match):
    with pytest.raises(MoedgeError, match=match):
        read(rope_scaling=scaling)


@pytest.mark.parametrize("scaling", [LLAMA3, YARN, {"type": "linear", "factor": 2.0}])
def test_phimoe_has_magnitudes_for_longrope_alone(scaling):
    with pytest.raises(MoedgeError, match="only longrope"):
        read("Phi-3.5-MoE", rope_scaling=scaling)
