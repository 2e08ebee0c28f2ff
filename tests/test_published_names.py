"""Tensors as published checkpoints name them: every one is consumed or rightly left out, any other stops the export."""

import json

import numpy as np
import pytest
import relaid
import tiny_families
import tiny_models as tiny
import torch
from published_tensors import BESIDE, FIRST_DENSE, LAYERS, NAMES, NO_CLASS, PREFIX
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine


def save(family, folder):
    """A tiny checkpoint with the names that transformers writes; Kimi's and the towers' as their makers do."""
    changes = {"num_hidden_layers": 2} | ({"first_k_dense_replace": 1} if family in FIRST_DENSE else {})
    changes |= LAYERS.get(family, {})
    if "layers_block_type" in changes:
        del changes["num_hidden_layers"]
    maker = tiny_families.MAKERS["deepseek_v3" if family in NO_CLASS else family]
    tiny.save_checkpoint(maker(**changes), folder, 0)
    tensors = load_file(folder / "model.safetensors")
    if family in NO_CLASS:
        config = json.loads((folder / "config.json").read_text())
        config = {"kimi_k2": config | {"model_type": family}, "kimi_vl": {"model_type": family, "text_config": config}}
        (folder / "config.json").write_text(json.dumps(config[family]))
    if family == "kimi_vl":
        return {f"language_model.{name}": tensor for name, tensor in tensors.items()}
    if family in PREFIX:  # without the tower
        head, prefix = place_head(family), PREFIX[family]
        tensors = {name: t for name, t in tensors.items() if name == head or name.startswith(prefix)}
        tensors = {name.replace(".blocks.", ".layers."): t for name, t in tensors.items()}
    return relaid.lay_out(tensors, "transformers 5") if family == "qwen3_5_moe" else tensors


def place_head(family):
    """Beside the text model; GLM-4.5V's stands outside."""
    return "language_model.lm_head.weight" if family in ("kimi_k25", "kimi_vl") else "lm_head.weight"


def published(family, experts):
    """The names of a published checkpoint of two layers with so many experts."""
    top, *layers = NAMES[family]
    names = top.split() + [f"model.layers.{i}.{part}" for i, layer in enumerate(layers) for part in layer.split()]
    names = [name.replace("#", str(e)) for name in names for e in range(experts if "#" in name else 1)]
    prefix = PREFIX.get(family, "model.")
    names = [place_head(family) if name == "lm_head.weight" else name for name in names]
    return {name.replace("model.", prefix, 1) if name.startswith("model.") else name for name in names}


@pytest.mark.parametrize("family", NAMES)
def test_every_tensor_has_its_place(family, tmp_path):
    tensors = save(family, tmp_path / "checkpoint")
    assert set(tensors) == published(family, 8)
    prefix = PREFIX.get(family, "model.")
    beside = [*BESIDE.get(family, []), f"{prefix}layers.0.self_attn.rotary_emb.inv_freq"]
    save_file(
        tensors | {name: torch.full((3,), torch.nan) for name in beside}, tmp_path / "checkpoint/model.safetensors"
    )
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    assert np.isfinite(Engine.load(tmp_path / "bundle").score([5, 6, 7])).all()
    stray = {f"{prefix}layers.1.self_attn.o_proj.stray": torch.zeros(3)}
    save_file(tensors | stray, tmp_path / "checkpoint/model.safetensors")
    with pytest.raises(MoedgeError, match=r"stray has no place in"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "other", ExportOptions(parse_plan("fp32")))


BIASED = ("nemotron_h", "laguna", "afmoe")


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "ernie4_5_moe", "lfm2_moe", *BIASED])
def test_correction_bias_in_any_precision(family, tmp_path):
    """Published in fp32 beside bf16, in bf16 like the rest, flat or as one row: the same bundle."""
    tensors = save(family, tmp_path / "checkpoint")
    [name] = [n for n in tensors if n.endswith(("correction_bias", "expert_bias"))]
    value = tensors[name].reshape(-1).bfloat16()
    written = []
    for variant in (value, value.float(), value[None]):
        save_file(tensors | {name: variant}, tmp_path / "checkpoint/model.safetensors")
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32"), force=True))
        written.append(Engine.load(tmp_path / "bundle").score([5, 6, 7, 8]))
    assert np.array_equal(written[0], written[1])
    assert np.array_equal(written[0], written[2])


def test_shared_experts_of_no_width_are_no_tensors(tmp_path):
    """transformers writes empty matrices for them, which hold nothing that could be lost."""
    config = tiny_families.quantizable("glm4_moe", n_shared_experts=0, num_hidden_layers=2)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
