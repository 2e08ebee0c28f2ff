"""NaN and infinity are refused in whatever tensor they stand, under fp32 too, where nothing is rounded."""

import json
import re

import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.graph.storing import read_finite
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

WEIGHT = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


HYBRIDS = ("qwen3_5_moe_text", "qwen3_next", "nemotron_h", "gemma4_text", "laguna", "granitemoe_swa")


@pytest.mark.parametrize("family", ["gpt_oss", "granitemoe", "lfm2_moe", "deepseek_v2", *HYBRIDS])
def test_nan_in_one_tensor_of_each_kind(family, tmp_path):
    """Stacked experts and their biases, sinks, convolutions, corrections, latent factors, embeddings, norms."""
    tiny.save_checkpoint(tiny_families.small(family), tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    kinds = {re.sub(r"\d+", "#", name): name for name in tensors}
    assert len(kinds) >= 12
    for i, name in enumerate(kinds.values()):
        tensor = tensors[name].clone()
        tensor.reshape(-1)[-1] = (torch.nan, torch.inf, -torch.inf)[i % 3]
        save_file(tensors | {name: tensor}, path, {"format": "pt"})
        with pytest.raises(MoedgeError, match="NaN or infinity"):
            export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
        assert not (tmp_path / "bundle").exists(), name


FORMATS = {
    "packed": (quantized.packed(4, 32), "weight_scale"), "int8": (quantized.int8(), "weight_scale"),
    "fp8": (quantized.fp8(16, 16), "weight_scale_inv"), "fp8 weight": (quantized.fp8(16, 16), "weight"),
    "fp8 whole": (quantized.compressed_fp8("tensor"), "weight_scale"),
    "gptq": (quantized.gptq(4, 32, False), "scales"), "awq": (quantized.awq(32), "scales"),
    "mxfp4": (quantized.compressed_mxfp4(), "weight_scale"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_scales_of_every_format(name, tmp_path):
    (encode, config), part = FORMATS[name]
    stored, _ = encode(WEIGHT)
    broken = stored[part].clone(memory_format=torch.contiguous_format)
    if broken.dtype in (torch.uint8, torch.float8_e4m3fn):
        broken.view(torch.uint8).reshape(-1)[-1] = 0xFF
    else:
        broken.reshape(-1)[-1] = torch.nan
    with opened(tmp_path, stored | {part: broken}, config) as checkpoint:
        matrix = open_matrix(checkpoint, "m", (16, 64))
        with pytest.raises(MoedgeError, match="NaN"):
            read_finite(matrix, 0, 16)


@pytest.mark.parametrize("kind", [quantized.compressed_fp8("tensor"), quantized.packed(8, 32)])
def test_a_finite_scale_under_which_weights_are_infinite(kind, tmp_path):
    encode, config = kind
    stored, _ = encode(WEIGHT)
    stored["weight_scale"] = torch.full_like(stored["weight_scale"], 3e38)
    with opened(tmp_path, stored, config) as checkpoint, pytest.raises(MoedgeError, match="NaN or infinity"):
        read_finite(open_matrix(checkpoint, "m", (16, 64)), 0, 16)


def opened(folder, stored, config):
    save_file({f"m.{part}": tensor.contiguous() for part, tensor in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    return Checkpoint(folder)
