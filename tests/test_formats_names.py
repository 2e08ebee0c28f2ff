"""The same tensors under the names that several tools give a format: read if the layout is, refused by name if not.

Zero points: AutoRound's packings that name GPTQ store them less one, its own and GPTQModel's store them as they are.
"""

import json

import numpy as np
import pytest
import quantized_checkpoints as quantized
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.formats import refuse_unreadable
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.checkpoint.published import read_published
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

ROWS, COLUMNS = 48, 96
WEIGHT = torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32))
GPTQ_1, GPTQ_2, GPTQ_8 = (quantized.gptq(b, 32, False, v)[0](WEIGHT) for b, v in ((4, 1), (4, 2), (8, 1)))
AWQ, BLOCKS = quantized.awq(32)[0](WEIGHT), quantized.fp8(16, 16)[0](WEIGHT)
ONE, CHANNEL = (quantized.compressed_fp8(kind)[0](WEIGHT) for kind in ("tensor", "channel"))


def auto_round(packing="auto_round:auto_gptq", **changes):
    """As intel/auto-round 0.5 and later write it."""
    return {
        "quant_method": "auto-round", "packing_format": packing, "bits": 4, "group_size": 32, "sym": False,
        "data_type": "int", "iters": 200, "autoround_version": "0.5.1", "block_name_to_quantize": "model.layers",
        "extra_config": {"model.layers.0.mlp.gate": {"bits": 16, "data_type": "float"}},
    } | changes  # fmt: skip


def older_auto_round(backend):
    return {"quant_method": "intel/auto-round", "backend": backend, "bits": 4, "group_size": 32, "sym": False}


def modelopt(algorithm, **changes):
    return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"], "producer": {}} | changes


def quark(qscheme):
    weight = {"dtype": "fp8_e4m3", "qscheme": qscheme, "is_dynamic": False}
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}, "layer_quant_config": {}, "exclude": []}


def shaped(encoded, *shape, name="weight_scale"):
    """The scales in another shape, and under the name that the tool gives them."""
    stored, dense = encoded
    scale = next(key for key in stored if key.startswith("weight_scale"))
    return {key: tensor for key, tensor in stored.items() if key != scale} | {name: stored[scale].reshape(shape)}, dense


SCALES = torch.from_numpy(np.random.default_rng(0).integers(118, 126, (ROWS, 3), dtype=np.uint8))
MXFP8 = (
    {"weight": BLOCKS[0]["weight"], "weight_scale": SCALES},
    BLOCKS[0]["weight"].float() * (2.0 ** (SCALES.float() - 127)).repeat_interleave(32, 1),
)
MIXED = {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "FP8_PB_WO", "group_size": 16}}
READ = {
    "auto-round gptq": (GPTQ_1, auto_round()),
    "auto-round gptq, short": (GPTQ_1, auto_round("auto_round:gptq")),
    "auto-round gptq, no packing": (GPTQ_1, auto_round(None)),
    "auto-round gptq, kernel": (GPTQ_1, auto_round("auto_round:auto_gptq:exllamav2")),
    "auto-round gptq, capitals": (GPTQ_1, auto_round("AUTO_ROUND:AUTO_GPTQ")),
    "auto-round gptq, 8 bits": (GPTQ_8, auto_round(bits=8)),
    "auto-round itself": (GPTQ_2, auto_round("auto_round")),
    "auto-round gptqmodel": (GPTQ_2, auto_round("auto_round:gptqmodel")),
    "auto-round awq": (AWQ, auto_round("auto_round:auto_awq")),
    "auto-round awq, short": (AWQ, auto_round("auto_round:awq")),
    "auto_round": (GPTQ_1, auto_round(quant_method="auto_round")),
    "intel/auto-round": (GPTQ_1, older_auto_round("auto_round:gptq:exllamav2")),
    "intel/auto-round, gptq": (GPTQ_1, older_auto_round("gptq:exllamav2")),
    "intel/auto-round, itself": (GPTQ_2, older_auto_round("auto_round:exllamav2")),
    "intel/auto-round, awq": (AWQ, older_auto_round("auto_round:auto_awq:gemm")),
    "auto-round fp8": (
        shaped(CHANNEL, ROWS), auto_round("auto_round:fp8", bits=8, data_type="fp", act_bits=8, group_size=-1)
    ),
    "gptq v2 by format": (GPTQ_2, {"quant_method": "gptq", "bits": 4, "group_size": 32, "format": "gptq_v2"}),
    "gptq without a method": (GPTQ_1, {"bits": 4, "group_size": 32, "desc_act": False, "sym": False}),
    "awq without a method": (AWQ, {"w_bit": 4, "q_group_size": 32, "zero_point": True, "version": "GEMM"}),
    "awq of gptqmodel": (AWQ, {"quant_method": "awq", "bits": 4, "group_size": 32, "checkpoint_format": "gemm"}),
    "modelopt": (shaped(ONE), modelopt("FP8")),
    "modelopt, [1]": (shaped(ONE, 1), modelopt("fp8", kv_cache_quant_algo="FP8")),
    "modelopt, nested": (shaped(ONE), {"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}),
    "modelopt without a method": (shaped(ONE), {"quant_algo": "FP8"}),
    "modelopt without a method, nested": (shaped(ONE), {"producer": {}, "quantization": {"quant_algo": "FP8"}}),
    "modelopt a channel": (shaped(CHANNEL, ROWS), modelopt("FP8_PER_CHANNEL_PER_TOKEN")),
    "modelopt blocks": (shaped(BLOCKS, 3, 1, 6, 1), modelopt("fp8_pb_wo", group_size=16)),
    "modelopt mixed": (shaped(BLOCKS, 3, 6), modelopt("MIXED_PRECISION", quantized_layers=MIXED)),
    "modelopt mixed, whole": (shaped(ONE), modelopt("MIXED_PRECISION", quantized_layers=MIXED)),
    "modelopt mxfp8": (MXFP8, modelopt("MXFP8")),
    "compressed mxfp8": (MXFP8, quantized.compressed_config(
        "mxfp8-quantized", num_bits=8, type="float", symmetric=True, strategy="group", group_size=32
    )),
    "fbgemm_fp8": (shaped(CHANNEL, ROWS, 1), {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}),
    "quark": (shaped(ONE), quark("per_tensor")),
    "quark a channel": (shaped(CHANNEL, ROWS), quark("per_channel")),
    "compression_config": (quantized.packed(4, 32)[0](WEIGHT), quantized.packed(4, 32)[1]),
}  # fmt: skip
# What lies beside a config.json that says nothing.
BESIDE = {
    "quantization_config.json": (GPTQ_1, auto_round()),
    "hf_quant_config.json": (
        shaped(BLOCKS, 3, 1, 6, 1), {"producer": {}, "quantization": {"quant_algo": "FP8_PB_WO", "group_size": 16}}
    ),
    "quantize_config.json": (GPTQ_1, {"bits": 4, "group_size": 32, "desc_act": False, "sym": False}),
    "quant_config.json": (AWQ, {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}),
}  # fmt: skip


def open_m(folder, stored, config):
    save_file({f"m.{part}": tensor.contiguous() for part, tensor in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint(folder)


def check(checkpoint, dense):
    with checkpoint:
        refuse_unreadable(checkpoint, Config(checkpoint.config), ())
        matrix = open_matrix(checkpoint, "m", (ROWS, COLUMNS))
        for start, stop in ((0, ROWS), (5, 37)):
            assert np.array_equal(matrix.read(start, stop), dense.numpy()[start:stop])


@pytest.mark.parametrize("name", READ)
def test_a_layout_that_is_read_under_any_name(name, tmp_path):
    (stored, dense), config = READ[name]
    key = name if name == "compression_config" else "quantization_config"
    for there in ({key: config}, {"text_config": {key: config}}):
        check(open_m(tmp_path, stored, there), dense)


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_file_beside_the_config_states(name, tmp_path):
    (stored, dense), side = BESIDE[name]
    (tmp_path / name).write_text("\ufeff" + json.dumps(side), encoding="utf-8")
    for config in (
        {},
        {"quantization_config": {}},
        {"quantization_config": {"quant_method": None}, "text_config": None},
    ):
        check(open_m(tmp_path, stored, config), dense)
    # config.json has the last word
    with (
        open_m(tmp_path, stored, {"quantization_config": {"quant_method": "hqq"}}) as checkpoint,
        pytest.raises(MoedgeError, match="quantized with hqq"),
    ):
        checkpoint.published  # noqa: B018


@pytest.mark.parametrize("algorithm", [None, "FP8"])
def test_a_cache_alone_that_is_quantized(algorithm, tmp_path):
    side = {"quantization": {"quant_algo": None, "kv_cache_quant_algo": algorithm}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(side))
    check(open_m(tmp_path, {"weight": WEIGHT}, {}), WEIGHT)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (modelopt("NVFP4"), "ModelOpt's NVFP4"),
        (modelopt("W4A8_AWQ"), "ModelOpt's W4A8_AWQ"),
        (modelopt("W8A8_SQ_PER_CHANNEL"), "ModelOpt's W8A8_SQ_PER_CHANNEL"),
        (modelopt("MIXED_PRECISION", quantized_layers=MIXED | {"c": {"quant_algo": "NVFP4"}}), "ModelOpt's NVFP4"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "ModelOpt's NVFP4"),
        (auto_round("auto_round:llm_compressor"), "AutoRound in auto_round:llm_compressor"),
        (auto_round(data_type="nv_fp"), "AutoRound's nv_fp"),
        (auto_round(act_bits=8), "act_bits = 8"),
        (auto_round(bits=2), "bits = 2"),
        (auto_round("auto_round:auto_awq", bits=8), "bits = 8"),
        (auto_round(data_type="fp8", bits=8, fmt="e5m2"), "e5m2"),
        (quark("per_group"), "Quark's fp8_e4m3 per_group"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4"}}}, "Quark's int4"),
        *(({"quant_method": name}, f"quantized with {name}") for name in ("aqlm", "exl2", "hqq", "torchao", "vptq")),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "quantized with bitsandbytes"),
        ({"load_in_8bit": True, "llm_int8_threshold": 6.0}, "quantized with bitsandbytes"),
        ({"quant_method": "bitsandbytes", "_load_in_4bit": True}, "quantized with bitsandbytes"),
        ({"group_size": 64, "bits": 4}, "quantized with MLX"),
        ({"group_size": 64, "bits": 4, "mode": "affine", "lm_head": {"bits": 8}}, "quantized with MLX"),
        ({"some": "thing"}, "quant_method"),
        ({"quant_method": "gptq", "group_size": "128"}, "group_size = '128'"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(config, match):
    for place in ({"quantization_config": config}, {"text_config": {"quantization_config": config}}):
        with pytest.raises(MoedgeError, match=match) as caught:
            read_published(Config(place))
        assert "download" not in str(caught.value)
        assert str(caught.value).endswith(".")


def test_mlx_before_it_wrote_quantization_config():
    with pytest.raises(MoedgeError, match="quantized with MLX"):
        read_published(Config({"quantization": {"group_size": 64, "bits": 4}}))


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"weight": torch.zeros(8, 2, dtype=torch.uint8), "weight.absmax": torch.zeros(2)}, "bitsandbytes, 4 bits"),
        ({"weight.quant_state.bitsandbytes__nf4": torch.zeros(3, dtype=torch.uint8)}, "bitsandbytes, 4 bits"),
        ({"weight": torch.zeros(8, 2, dtype=torch.int8), "SCB": torch.zeros(8)}, "bitsandbytes, 8 bits"),
        ({"weight": torch.zeros(8, dtype=torch.uint32), "scales": torch.zeros(8), "biases": torch.zeros(8)}, "MLX"),
        ({"q_weight": torch.zeros(8, 2, dtype=torch.int32), "q_groups": torch.zeros(8)}, "EXL2"),
        ({"trellis": torch.zeros(8, 2, dtype=torch.int16), "suh": torch.zeros(8)}, "EXL3"),
        ({"codebooks": torch.zeros(1), "codes": torch.zeros(8, dtype=torch.int8)}, "AQLM"),
        ({"W_q": torch.zeros(8, dtype=torch.uint8)}, "HQQ"),
        ({"weight": torch.zeros(8, 2, dtype=torch.uint8), "weight_scale_2": torch.zeros(1)}, "NVFP4"),
        ({"q_proj.lora_A.weight": torch.zeros(4, 8)}, "part of a LoRA adapter: merge it"),
        ({"q_proj.base_layer.weight": torch.zeros(4, 8)}, "part of a LoRA adapter: merge it"),
        ({"lm_head.modules_to_save.default.weight": torch.zeros(4, 8)}, "part of a LoRA adapter: merge it"),
    ],
)  # fmt: skip
def test_tensors_tell_where_the_config_is_silent(parts, match, tmp_path):
    with open_m(tmp_path, parts, {}) as checkpoint, pytest.raises(MoedgeError, match=match) as caught:
        refuse_unreadable(checkpoint, Config(checkpoint.config), ())
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("config", [None, {"quant_method": "fp8"}])
def test_fp8_that_was_only_cast_and_fp8_that_lost_a_scale(config, tmp_path):
    cast = {"weight": WEIGHT.to(torch.float8_e4m3fn), "bias": torch.zeros(ROWS)}
    for more, match in (
        ({}, "cast to eight bits"),
        ({"other.weight_scale": torch.ones(1)}, "m.weight has no weight_scale"),
    ):
        with (
            open_m(tmp_path, cast | more, {"quantization_config": config}) as checkpoint,
            pytest.raises(MoedgeError, match=match) as caught,
        ):
            refuse_unreadable(checkpoint, Config(checkpoint.config), ())
        assert "download" not in str(caught.value)  # every shard is whole


FP8_EXPERTS = quantized.compressed_fp8("tensor")[0]


def test_a_model_of_modelopt_with_its_scales_of_activations_and_cache(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    dense = quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, FP8_EXPERTS, modelopt("FP8"))
    expected = tiny.reference_logits(quantized.dense_model(tmp_path / "checkpoint", dense), np.arange(2, 40))
    path = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith(".weight_scale")]:
        tensors[name.replace("weight_scale", "input_scale")] = torch.tensor(0.1)
        tensors[name] = tensors[name].reshape(())
    for scale in ("k_proj.k_scale", "v_proj.v_scale", "kv_scale", "prob_output_scale", "q_proj.q_scale"):
        tensors[f"model.layers.0.self_attn.{scale}"] = torch.tensor(1.0)
    save_file(tensors, path, {"format": "pt"})
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    found = Engine.load(tmp_path / "bundle").score(list(range(2, 40)))
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
