"""One model, several spellings of its config.json; and keys that only the makers' own code honours."""

import json

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from published_configs import PUBLISHED
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.formats import read_published
from moedge.export.families import read_model_config
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine


def read(name, **changes):
    return read_model_config(Config({k: v for k, v in (PUBLISHED[name].config | changes).items() if v is not ...}))


def floated(value):
    """Whole numbers as 8.0, at any depth."""
    if isinstance(value, dict):
        return {key: floated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [floated(item) for item in value]
    return float(value) if type(value) is int else value


@pytest.mark.parametrize("name", PUBLISHED)
def test_whole_numbers_as_floats(name):
    data = floated(PUBLISHED[name].config)
    assert sum(isinstance(value, float) for value in data.get("text_config", data).values()) > 8
    model = read_model_config(Config(data))
    assert model == read(name)
    assert type(model.hidden_size) is type(model.moe_layers[0]) is int


def test_floats_that_are_no_whole_numbers():
    for value in (8.5, float("inf"), float("nan"), True, "8"):
        with pytest.raises(MoedgeError, match="num_local_experts"):
            read("Mixtral-8x7B-Instruct-v0.1", num_local_experts=value)
    with pytest.raises(MoedgeError, match="mlp_only_layers"):
        read("Qwen1.5-MoE-A2.7B", mlp_only_layers=[1.5])
    assert read("Qwen1.5-MoE-A2.7B", mlp_only_layers=[1.0]).moe_layers[:2] == (0, 2)


@pytest.mark.parametrize("family", [name for name in tiny_families.MAKERS if name != "kimi_k25"])
def test_names_that_transformers_has_for_the_same_key(family):
    config = tiny_families.MAKERS[family]()
    data = json.loads(config.to_json_string(use_diff=False))
    wanted = read_model_config(Config(data))
    for other, key in type(config).attribute_map.items():
        key, other = (key, other) if key in data else (other, key)
        respelled = {k: v for k, v in data.items() if k != key} | {other: data.get(key)}
        assert read_model_config(Config(respelled)) == wanted, other


def test_experts_a_token_as_openai_writes_them():
    assert read("gpt-oss-20b", num_experts_per_tok=..., experts_per_token=2).experts.num_experts_per_tok == 2
    assert read("gpt-oss-20b", num_experts_per_tok=4, experts_per_token=2).experts.num_experts_per_tok == 4


@pytest.mark.parametrize(
    ("name", "key", "field"),
    [
        ("DeepSeek-V2", "n_shared_experts", "shared_intermediate_size"),
        ("DeepSeek-V3.1", "n_shared_experts", "shared_intermediate_size"),
        ("dots.llm1", "n_shared_experts", "shared_intermediate_size"),
        ("GLM-4.5-Air", "n_shared_experts", "shared_intermediate_size"),
        ("ERNIE-4.5-21B-A3B-PT", "moe_num_shared_experts", "shared_intermediate_size"),
        ("Qwen1.5-MoE-A2.7B", "shared_expert_intermediate_size", "shared_intermediate_size"),
    ],
)
def test_null_and_0_are_no_shared_experts(name, key, field):
    for none in (None, 0, 0.0):
        experts = read(name, **{key: none}).experts
        assert getattr(experts, field) == 0
        assert not experts.shared_gate
    assert getattr(read(name).experts, field) > 0


@pytest.mark.parametrize("name", ["Mixtral-8x7B-Instruct-v0.1", "Qwen2-57B-A14B", "OLMoE-1B-7B-0924", "dots.llm1"])
def test_null_key_heads_are_as_many_as_heads(name):
    attention = read(name, num_key_value_heads=None, head_dim=None).mixers[0]
    assert attention.num_kv_heads == attention.num_heads
    assert attention.head_dim == read(name).mixers[0].head_dim


def test_null_groups_are_one():
    router = read("DeepSeek-V3.1", n_group=None, topk_group=None).experts.router
    assert (router.n_group, router.topk_group) == (1, 1)


def test_a_window_that_is_switched_off_is_not_read():
    for window in (0, None, "wide"):
        assert read("Qwen1.5-MoE-A2.7B", use_sliding_window=False, sliding_window=window).mixers[0].window == 0


@pytest.mark.parametrize("stored", ["whole", "empty matrices only", "nothing"])
def test_shared_experts_of_width_0(tmp_path, stored):
    """transformers stores them: matrices without numbers, and the gate that opens to nothing."""
    config = tiny_families.small("qwen2_moe", shared_expert_intermediate_size=0)
    model = tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    assert sum("shared_expert" in name for name in tensors) == 12
    dropped = {"whole": "\n", "empty matrices only": "shared_expert_gate", "nothing": "shared_expert"}[stored]
    save_file({k: v for k, v in tensors.items() if dropped not in k}, path, metadata={"format": "pt"})
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    ids = np.random.default_rng(0).integers(2, 211, 40)
    reference = tiny.reference_logits(model, ids)
    ours = Engine.load(tmp_path / "bundle").score(ids.tolist())
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()


def test_shared_experts_that_the_config_denies_are_not_left_out(tmp_path):
    tiny.save_checkpoint(tiny_families.small("qwen2_moe"), tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shared_expert_intermediate_size": 0}))
    with pytest.raises(MoedgeError, match=r"shared_expert\."):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))


def test_deepseek_v2_divides_or_scales():
    """As its makers' router does; with one expert a token there is nothing to divide by."""
    router = read("DeepSeek-V2", norm_topk_prob=True).experts.router
    assert (router.normalize, router.scale) == (True, 1.0)
    router = read("DeepSeek-V2", norm_topk_prob=True, num_experts_per_tok=1).experts.router
    assert (router.normalize, router.scale) == (False, 16.0)
    for absent in (False, None, ...):
        router = read("DeepSeek-V2", norm_topk_prob=absent).experts.router
        assert (router.normalize, router.scale) == (False, 16.0)


def test_ernies_switches():
    router = read("ERNIE-4.5-21B-A3B-PT", moe_norm_gate_logits=False, moe_use_aux_free=False).experts.router
    assert not router.normalize
    assert not router.correction_bias


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("DeepSeek-V2-Lite", {"use_mla": False}),
        ("ERNIE-4.5-21B-A3B-PT", {"use_rmsnorm": False}),
        ("ERNIE-4.5-21B-A3B-PT", {"moe_group_experts": True}),
        ("LFM2-8B-A1B", {"use_pos_enc": False}),
    ],
)
def test_makers_keys_that_would_change_the_mathematics_are_refused(name, changes):
    with pytest.raises(MoedgeError, match=next(iter(changes))):
        read(name, **changes)


@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("jamba", "Mamba layers of the first kind"),
        ("deepseek_v32", "sparse attention"),
        ("minimax", "linear attention"),
    ],
)
def test_hybrids_are_refused_with_the_reason(model_type, why):
    with pytest.raises(MoedgeError, match=rf"{model_type} models have .*{why}, which moedge does not compute: .*\.$"):
        read_model_config(Config({"model_type": model_type}))


def block(value):
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": value}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}
    return read_published(Config({"quantization_config": config})).fp8_block


def test_blocks_as_older_tools_wrote_them():
    """compressed-tensors accepts both spellings and writes the list."""
    assert block("128x64") == block([128, 64]) == block([128.0, 64.0]) == block(" 128 X 64 ") == (128, 64)
    for wrong in ("128", "128x", "x", "128x64x2", "axb", "0x128", "-1x128", [128], "9" * 5000 + "x1", "²x1"):
        with pytest.raises(MoedgeError, match="block_structure"):
            block(wrong)


@pytest.mark.parametrize("family", ["qwen3_5_moe", "gemma4"])
@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True)])
def test_the_outer_configuration_says_whether_the_head_is_tied(family, outer, inner):
    """A text model within has the default of its class there, whatever the whole model has."""
    data = tiny_families.MAKERS[family]().to_dict()
    data["text_config"]["tie_word_embeddings"] = inner
    assert read_model_config(Config(data | {"tie_word_embeddings": outer})).tie_word_embeddings == outer
    del data["tie_word_embeddings"]
    assert read_model_config(Config(data)).tie_word_embeddings == inner


def test_nemotrons_biases_are_those_of_use_bias():
    data = tiny_families.MAKERS["nemotron_h"]().to_dict() | {"n_shared_experts": 2}
    mixers = [read_model_config(Config(data | {"use_bias": bias})).mixers[0] for bias in (False, True)]
    assert [mixer.bias for mixer in mixers] == [False, True]
