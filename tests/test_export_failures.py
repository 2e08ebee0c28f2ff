"""Exports that must fail do so with one sentence, and leave what was there untouched."""

import json
import os

import numpy as np
import pytest
import tiny_models as tiny
from safetensors.numpy import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

INT4 = ExportOptions(parse_plan("int4"))


@pytest.fixture
def checkpoint(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


def refuse(checkpoint, match, options=INT4):
    """The export fails with that message, and nothing is left beside the checkpoint."""
    target = checkpoint.parent / "bundle"
    before = sorted(checkpoint.parent.iterdir())
    with pytest.raises(MoedgeError, match=match) as caught:
        export_bundle(checkpoint, target, options)
    assert str(caught.value).endswith(".")
    assert sorted(checkpoint.parent.iterdir()) == before


def edit_config(checkpoint, **changes):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def edit_tensors(checkpoint, edit):
    tensors = load_file(checkpoint / "model.safetensors")
    edit(tensors)
    save_file(tensors, checkpoint / "model.safetensors")


@pytest.mark.parametrize("cut", [1, 1000, 30_000])
def test_truncated_shard(checkpoint, cut):
    path = checkpoint / "model.safetensors"
    os.truncate(path, path.stat().st_size - cut)
    refuse(checkpoint, r"model\.safetensors \(\d+ bytes\) is truncated or broken")


def test_garbage_shard(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 4096)
    refuse(checkpoint, "truncated or broken")


def test_missing_shard_of_an_index(checkpoint):
    names = load_file(checkpoint / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse(checkpoint, "model-00001-of-00001.safetensors is missing")


def test_index_that_points_outside(checkpoint):
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    refuse(checkpoint, "outside the folder")


def test_tensor_in_two_shards(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    shards = ("model-1.safetensors", "model-2.safetensors")
    save_file(tensors, checkpoint / shards[0])
    save_file({"lm_head.weight": tensors["lm_head.weight"] * 2}, checkpoint / shards[1])
    index = dict.fromkeys(tensors, shards[0]) | {"lm_head.weight": shards[1]}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    refuse(checkpoint, r"lm_head\.weight is in model-1\.safetensors and in model-2\.safetensors")


def test_missing_tensor(checkpoint):
    edit_tensors(checkpoint, lambda t: t.pop("model.layers.1.mlp.experts.3.up_proj.weight"))
    refuse(checkpoint, r"model\.layers\.1\.mlp\.experts\.3\.up_proj\.weight is missing")


def test_leftover_tensor(checkpoint):
    edit_tensors(
        checkpoint, lambda t: t.update({"model.layers.0.mlp.shared_expert.up_proj.weight": np.ones((2, 2), np.float32)})
    )
    refuse(checkpoint, r"model\.layers\.0\.mlp\.shared_expert\.up_proj\.weight .*has no place in qwen3_moe")


@pytest.mark.parametrize(("predict_layers", "refused"), [(1, False), (0, True)])
def test_only_prediction_layers_may_stand_after_the_last(tmp_path, predict_layers, refused):
    checkpoint = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny.deepseek_v3(v_head_dim=16), checkpoint, 0)
    edit_config(checkpoint, num_nextn_predict_layers=predict_layers)
    edit_tensors(checkpoint, lambda t: t.update({"model.layers.3.eh_proj.weight": np.ones((2, 2), np.float32)}))
    if refused:
        refuse(checkpoint, r"model\.layers\.3\.eh_proj\.weight .*has no place", ExportOptions(parse_plan("fp32")))
    else:
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(parse_plan("fp32")))


def test_more_experts_than_the_config_says(checkpoint):
    edit_config(checkpoint, num_experts=7, num_local_experts=7)
    refuse(checkpoint, r"gate\.weight|experts\.7")


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_an_expert_of_another_shape(checkpoint, part):
    name = f"model.layers.2.mlp.experts.5.{part}.weight"
    edit_tensors(checkpoint, lambda t: t.update({name: t[name][:16].copy()}))
    refuse(checkpoint, rf"experts\.5\.{part}\.weight has the shape .*do not belong together")


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.self_attn.q_norm.weight"])
def test_a_tensor_shorter_than_the_config_says(checkpoint, name):
    edit_tensors(checkpoint, lambda t: t.update({name: t[name][:30].copy()}))
    refuse(checkpoint, f"{name} has the shape")


@pytest.mark.parametrize("scheme", ["fp32", "int4", "int8", "int4-block32-zp"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", ["lm_head", "model.layers.0.mlp.experts.3.up_proj", "model.norm"])
def test_what_is_no_number_is_not_written(checkpoint, name, value, scheme):
    edit_tensors(checkpoint, lambda t: t[f"{name}.weight"].reshape(-1).__setitem__(40, value))
    refuse(checkpoint, rf"{name}.*NaN", ExportOptions(parse_plan(scheme)))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_integers_are_no_weights(checkpoint, dtype):
    name = "model.layers.2.mlp.experts.7.up_proj.weight"
    edit_tensors(checkpoint, lambda t: t.update({name: t[name].astype(dtype)}))
    refuse(checkpoint, f"{name} is stored as")


def group(**changes):
    """A quantization_config of compressed-tensors as Kimi K2 Thinking's, with other weights."""
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, "actorder": None}
    groups = {"group_0": {"targets": ["Linear"], "input_activations": None, "weights": weights | changes}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}


@pytest.mark.parametrize(
    ("quantization", "match"),
    [
        ({"bits": 4}, "quant_method"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized with bitsandbytes"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "e5m2"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, "weight_block_size"),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "expert_dtype"),
        ({"quant_method": "gptq", "bits": 3}, "bits = 3"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "marlin"),
        ({"quant_method": "gptq", "bits": 4, "format": "gptq_p"}, "gptq_p"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "gemv"),
        ({"quant_method": "awq", "bits": 8}, "bits = 8"),
        (group() | {"format": "mxfp6-pack-quantized"}, "quantized with compressed-tensors' mxfp6.* take"),
        (group() | {"format": "marlin-24"}, "marlin-24"),
        (group() | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24-bitmask"),
        (group() | {"transform_config": {"config_groups": {"u": {"type": "hadamard"}}}}, "transform_config"),
        (group(num_bits=2), "num_bits = 2"),
        (group(num_bits=3), "num_bits = 3"),
        (group(strategy="tensor_group"), "strategy"),
        (group(type="float", num_bits=4, strategy="tensor_group", group_size=32), "group_size = 32"),
        (group(type="float", num_bits=4, strategy="group", group_size=16), "group_size = 16"),
        (group(type="float", num_bits=6), "num_bits = 6"),
        (group(type="fixed"), "type = 'fixed'"),
    ],
)
def test_other_quantized_checkpoints_are_refused_before_anything_is_read(checkpoint, quantization, match, monkeypatch):
    monkeypatch.setattr(
        "moedge.export.checkpoint.folder.Checkpoint.read_part", lambda *_: pytest.fail("a tensor was read")
    )
    edit_config(checkpoint, quantization_config=quantization)
    refuse(checkpoint, match)
    edit_config(checkpoint, quantization_config=None, text_config={"quantization_config": quantization})
    refuse(checkpoint, match)


def test_wrong_width(checkpoint):
    edit_config(checkpoint, moe_intermediate_size=48)
    refuse(checkpoint, "do not belong together")


def test_unknown_family_names_the_nearest(checkpoint):
    edit_config(checkpoint, model_type="qwen4_moe")
    refuse(checkpoint, "qwen3_moe")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "stretched", "rope_theta": 1e4}}, "stretched"),
        ({"num_hidden_layers": "three"}, "num_hidden_layers"),
        ({"vocab_size": ...}, "vocab_size"),
    ],
)
def test_config_that_cannot_be_honoured(checkpoint, changes, match):
    edit_config(checkpoint, **changes)
    refuse(checkpoint, match)


def test_missing_and_broken_tokenizer(checkpoint):
    path = checkpoint / "tokenizer.json"
    path.write_text("{}")
    refuse(checkpoint, "not a tokenizer")
    path.unlink()
    refuse(checkpoint, r"has no tokenizer\.json")


def test_fused_fp32_is_refused(checkpoint):
    refuse(checkpoint, "fused experts are quantized", ExportOptions(parse_plan("fp32"), "fused"))


def test_context_beyond_the_model(checkpoint):
    refuse(checkpoint, "--context 513", ExportOptions(parse_plan("int4"), context=513))
