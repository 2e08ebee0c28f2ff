"""Checkpoints whose tensors do not fit their format: one sentence with the tensor's name, and nothing is exported."""

import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

CONFIG = tiny.qwen3_moe(num_hidden_layers=1, num_experts=2, num_experts_per_tok=1)
GPT_OSS = tiny_families.small(
    "gpt_oss", intermediate_size=96, num_hidden_layers=1, num_local_experts=2, num_experts_per_tok=1
)
EXPERT = "model.layers.0.mlp.experts.1.up_proj"  # [32, 64]
FUSED = "model.layers.0.mlp.experts.gate_up_proj"  # [2, 64, 192], as MXFP4 the other way round


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Whole checkpoints by format; a test changes the tensors of a copy."""
    folder = tmp_path_factory.mktemp("formats")
    kinds = {
        "packed": quantized.packed(4, 32), "asymmetric": quantized.packed(4, 32, False), "int8": quantized.int8(),
        "fp8": quantized.fp8(16, 16), "gptq": quantized.gptq(4, 32, False), "awq": quantized.awq(32),
        "ordered": quantized.gptq(4, 32, ordered=True), "tensor": quantized.compressed_fp8("tensor"),
    }  # fmt: skip
    for name, (encode, config) in kinds.items():
        tiny.save_checkpoint(CONFIG, folder / name, 0)
        quantized.convert(folder / name, quantized.EXPERTS, encode, config)
    tiny.save_checkpoint(GPT_OSS, folder / "mxfp4", 0)
    quantized.mxfp4_experts(folder / "mxfp4", 0)
    return folder


def drop(part):
    return lambda tensors: tensors.pop(f"{EXPERT}.{part}")


def put(part, change):
    return lambda tensors: tensors.update({f"{EXPERT}.{part}": change(tensors.get(f"{EXPERT}.{part}")).contiguous()})


def poke(part, value):
    """One number of the tensor becomes `value`."""

    def change(tensors):
        tensor = tensors[f"{EXPERT}.{part}"].clone()
        tensor.view(torch.uint8 if tensor.dtype == torch.float8_e4m3fn else tensor.dtype).reshape(-1)[5] = value
        tensors[f"{EXPERT}.{part}"] = tensor

    return change


def fused(part, change):
    return lambda tensors: tensors.update({f"{FUSED}{part}": change(tensors[f"{FUSED}{part}"]).contiguous()})


def norm_in_fp8(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    tensors["model.norm.weight_scale_inv"] = torch.ones(1)


CASES = [
    ("packed", drop("weight_scale"), "weight_packed has no weight_scale"),
    ("packed", drop("weight_shape"), "weight_packed has no weight_shape"),
    ("packed", poke("weight_scale", float("inf")), "scales hold NaN or infinity"),
    ("packed", put("weight_scale", lambda t: t[:-1]), "weight_scale has the shape"),
    ("packed", put("weight_scale", lambda t: t[:, :0]), "weight_scale has the shape"),
    ("packed", put("weight_packed", lambda t: t[:, :5]), "weight_packed has the shape"),
    ("packed", put("weight_packed", lambda t: t.view(torch.uint8)), "where MXFP4 has bytes"),
    ("packed", put("weight_zero_point", lambda _: torch.zeros(4, 2, dtype=torch.int32)), "says symmetric"),
    ("packed", put("weight_g_idx", lambda _: torch.full((64,), 2, dtype=torch.int32)), "groups 2 to 2 of 2"),
    ("packed", put("weight_scale", lambda t: t.to(torch.float8_e4m3fn)), "stored as F8_E4M3"),
    ("packed", put("weight_scale", lambda t: t.to(torch.uint8)), "weight_scale is stored as U8 where"),
    ("packed", put("weight_global_scale", lambda _: torch.ones(1)), "has no place"),
    ("asymmetric", drop("weight_zero_point"), "weight_packed has no weight_zero_point"),
    ("asymmetric", put("weight_zero_point", lambda t: t[:-1]), "weight_zero_point has the shape"),
    ("asymmetric", put("weight_zero_point", lambda t: t.float()), "stored as F32"),
    ("int8", drop("weight_scale"), "weight has no weight_scale"),
    ("int8", put("weight", lambda t: t.view(torch.uint8)), "stored as U8"),
    ("int8", put("weight", lambda t: t[:, :32]), "weight has the shape"),
    ("int8", poke("weight_scale", float("nan")), "scales hold NaN"),
    ("fp8", drop("weight_scale_inv"), "weight has no weight_scale"),
    ("fp8", put("weight_scale_inv", lambda t: t[:, :2]), "weight_scale_inv has the shape"),
    ("fp8", put("weight_scale_inv", lambda t: t[:1, :1]), r"weight_scale_inv has the shape \(1, 1\) where one a row"),
    ("fp8", poke("weight_scale_inv", float("nan")), "scales hold NaN"),
    ("fp8", poke("weight", 0x7F), "it holds NaN"),
    ("fp8", put("weight", lambda t: t[:16]), "weight has the shape"),
    ("fp8", put("weight", lambda t: t.float().to(torch.float8_e5m2)), "stored as F8_E5M2"),
    ("tensor", put("weight_scale", lambda t: t.expand(3, 1)), "weight_scale has the shape"),
    ("gptq", drop("scales"), "qweight has no scales"),
    ("gptq", drop("qzeros"), "qweight has no qzeros"),
    ("gptq", put("scales", lambda t: t[:, :8]), "scales has the shape"),
    ("gptq", put("scales", lambda t: t[:1]), "qzeros has the shape"),
    ("gptq", put("scales", lambda t: t[:0]), "scales has the shape"),
    ("gptq", poke("scales", float("nan")), "scales hold NaN"),
    ("gptq", put("qzeros", lambda t: t[:, :2]), "qzeros has the shape"),
    ("gptq", put("qweight", lambda t: t[:5]), "qweight has the shape"),
    ("gptq", put("qweight", lambda t: t.long()), "stored as I64"),
    ("gptq", put("g_idx", lambda t: t[:5]), "g_idx has the shape"),
    ("gptq", put("g_idx", lambda t: t.float()), "stored as F32"),
    ("ordered", drop("g_idx"), "qweight has no g_idx"),
    ("ordered", poke("g_idx", 2), "groups 0 to 2 of 2"),
    ("ordered", poke("g_idx", -1), "groups -1 to 1 of 2"),
    ("awq", drop("qzeros"), "qweight has no qzeros"),
    ("awq", drop("scales"), "qweight has no scales"),
    ("awq", poke("scales", float("nan")), "scales hold NaN"),
    ("awq", put("qweight", lambda t: t.T), "qweight has the shape"),
    ("awq", put("scales", lambda t: t[:1].expand(3, -1)), "qzeros has the shape"),
    ("mxfp4", lambda t: t.pop(f"{FUSED}_scales"), "gate_up_proj_blocks has no gate_up_proj_scales"),
    ("mxfp4", fused("_scales", lambda t: t.clone().fill_(255)), "scales hold NaN"),
    ("mxfp4", fused("_scales", lambda t: t[:, :8]), "gate_up_proj_scales has the shape"),
    ("mxfp4", fused("_scales", lambda t: t.float()), "stored as F32"),
    ("mxfp4", fused("_blocks", lambda t: t[:, :, :1]), "gate_up_proj_blocks has the shape"),
    ("mxfp4", fused("_blocks", lambda t: t.to(torch.int32)), "stored as I32"),
    ("mxfp4", fused("_blocks", lambda t: t[:1]), "gate_up_proj_blocks has the shape"),
    ("fp8", norm_in_fp8, "model.norm.weight is stored as F8_E4M3 where"),
]


@pytest.mark.parametrize(("name", "change", "match"), CASES, ids=[f"{n}: {m}" for n, _, m in CASES])
def test_broken_tensors_are_refused_by_name(name, change, match, checkpoints, tmp_path):
    refuse(checkpoints / name, tmp_path, change, match)


@pytest.mark.parametrize(
    ("name", "config", "match"),
    [
        ("packed", {"actorder": "group"}, "weight_packed has no weight_g_idx"),
        ("packed", {"symmetric": False}, "weight_packed has no weight_zero_point"),
        ("gptq", quantized.packed()[1], "neither gptq nor awq"),
        ("gptq", None, "neither gptq nor awq"),
        ("gptq", quantized.awq()[1], "qweight has the shape"),
        ("awq", quantized.gptq()[1], "qweight has the shape"),
        ("fp8", None, "weight_scale_inv has the shape"),
        ("fp8", quantized.fp8(128, 128)[1], "weight_scale_inv has the shape"),
    ],
)
def test_a_config_that_does_not_belong_to_the_tensors(name, config, match, checkpoints, tmp_path):
    if name == "packed":
        whole = quantized.packed()[1]
        whole["config_groups"]["group_0"]["weights"].update(config)
        config = whole
    refuse(checkpoints / name, tmp_path, lambda tensors: None, match, config)


def refuse(source, folder, change, match, *quantization):
    """The export of a changed copy fails with that sentence."""
    copy = folder / "checkpoint"
    copy.mkdir()
    for path in source.iterdir():
        if path.name != "model.safetensors":
            (copy / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    for config in quantization:
        quantized.edit_config(copy, quantization_config=config)
    with pytest.raises(MoedgeError, match=match) as caught:
        export_bundle(copy, folder / "bundle", ExportOptions(parse_plan("int8")))
    assert str(caught.value).endswith(".")
    assert "download" not in str(caught.value)
    assert any(name in str(caught.value) for name in (EXPERT, FUSED, "experts.0", "model.norm"))
    assert not (folder / "bundle").exists()
