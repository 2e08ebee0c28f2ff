"""Families of layers that differ, in the number formats that they are published in: which modules, under which names.

Each scores as its dequantized weights, and what a scheme holds as it is keeps its codes.
"""

import json

import numpy as np
import nvfp4_checkpoints as nvfp4
import pytest
import quantized_checkpoints as quantized
import relaid
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

IDS = np.random.default_rng(0).integers(8, 211, 40)
EXPERTS = r".*\.experts\.\d+\.\w+_proj"
SHARED = r".*\.shared_expert\.\w+_proj"
ATTENTION = r".*self_attn\.[qkvo]_proj"
DELTA_NET = r".*linear_attn\.(in_proj_qkv|in_proj_z|in_proj_qkvz|out_proj)"
NEMOTRON = {"layers_block_type": ["linear_attention", "moe", "full_attention", "linear_attention", "moe", "mlp"]}


def any_of(*patterns):
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def save(family, folder, **changes):
    """A checkpoint with a module an expert, as all of these are quantized; and transformers' model."""
    model = tiny.save_checkpoint(tiny_families.quantizable(family, **changes), folder, 0)
    path = folder / "model.safetensors"
    if family == "gemma4_text":
        save_file(relaid.lay_out(load_file(path), "an expert, three matrices"), path, {"format": "pt"})
    return model


def score(model, folder, dense):
    """transformers' logits with the dequantized weights in the place of those that it had."""
    state = model.state_dict()
    if not any("shared_expert." in name for name in state):
        dense = {name.replace("shared_expert.", "shared_experts."): tensor for name, tensor in dense.items()}
    dense = {name.replace("backbone.", "model."): tensor for name, tensor in dense.items()}
    each = {name: tensor for name, tensor in dense.items() if ".experts." in name}
    plain = {name: tensor for name, tensor in dense.items() if name not in each}
    for name in [n for n in state if each and ".experts." in n and n.endswith("_proj")]:
        place, _, part = name.rpartition(".")
        parts = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
        experts = [[each[f"{place}.{e}.{p}.weight"] for p in parts] for e in range(len(state[name]))]
        plain[name] = torch.stack([torch.cat(matrices) for matrices in experts])
    assert set(plain) <= set(state)
    model.load_state_dict(state | plain)
    return tiny.reference_logits(model, IDS)


def count_layers(model):
    """Delta nets, and layers with attention."""
    kinds = model.config.layer_types
    return kinds.count("linear_attention"), kinds.count("full_attention")


def export(folder, scheme="fp32", plan="if", changes=()):
    target = folder.with_name(f"{scheme}-{plan}")
    export_bundle(folder, target, ExportOptions(parse_plan(scheme, changes), plan, force=True))
    return target


def off(bundle, reference):
    return np.abs(Engine.load(bundle).score(IDS.tolist()) - reference).max() / np.abs(reference).max()


def read_origins(bundle):
    """What became of how many matrices of which group and format."""
    origins = json.loads((bundle / "report.json").read_text())["origins"]
    return {(o["group"], o["format"], o["outcome"]): o["matrices"] for o in origins}


def fp8_of_qwen():
    """Blocks of 128; what decides how much a delta net forgets, routers, norms and the head stay in bf16."""
    encode, config = quantized.fp8()
    kept = ["lm_head", "model.language_model.layers.0.linear_attn.conv1d", "model.language_model.layers.0.mlp.gate"]
    return encode, config | {"activation_scheme": "dynamic", "modules_to_not_convert": kept}


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "qwen3_next"])
def test_fp8_as_qwen_publishes_it(family, tmp_path):
    folder = tmp_path / "checkpoint"
    model = save(family, folder)
    dense = quantized.convert(folder, any_of(EXPERTS, SHARED, ATTENTION, DELTA_NET), *fp8_of_qwen())
    nets, attending = count_layers(model)
    mixing = 4 * attending + (3 if family == "qwen3_5_moe_text" else 2) * nets
    assert nets > 0 < attending
    assert len(dense) == (nets + attending) * (8 * 3 + 3) + mixing

    def predict_another(tensors):
        """A layer that predicts one token more stands in the same format, and is left out."""
        place = "mtp.layers.0.mlp.experts.0.up_proj"
        tensors[f"{place}.weight"] = torch.zeros(64, 128).to(torch.float8_e4m3fn)
        tensors[f"{place}.weight_scale_inv"] = torch.ones(1, 1)

    quantized.edit_tensors(folder, predict_another)
    bundle = export(folder)
    assert off(bundle, score(model, folder, dense)) < 1e-3
    found, blocks = read_origins(bundle), "fp8 in blocks of 128 x 128"
    assert found["routed experts", blocks, "dequantized"] == (nets + attending) * 8 * 3
    assert found["attention", blocks, "dequantized"] == mixing + attending  # queries and their gates count each


def test_fp8_with_all_experts_in_one_tensor_is_refused(tmp_path):
    """Qwen publishes a module an expert; nobody says how scales of three dimensions would be laid out."""
    folder = tmp_path / "checkpoint"
    save("qwen3_5_moe_text", folder)
    tensors = relaid.lay_out(load_file(folder / "model.safetensors"), "transformers 5")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[f"{name}_scale_inv"] = torch.ones(8, 1, 1)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    quantized.edit_config(folder, quantization_config=fp8_of_qwen()[1])
    with pytest.raises(MoedgeError, match=r"experts\.gate_up_proj is stored as F8_E4M3"):
        export(folder)


def whole_fp8():
    """ModelOpt's FP8: one scale a matrix, and one of the activations beside it."""

    def encode(weight):
        scale = weight.abs().max() / 448
        values = (weight / scale).to(torch.float8_e4m3fn)
        return {"weight": values, "weight_scale": scale, "input_scale": torch.tensor(0.5)}, values.float() * scale

    return encode


@pytest.mark.parametrize("algorithm", ["NVFP4", "W4A16_NVFP4"])
def test_nvfp4_experts_beside_fp8_attention(algorithm, tmp_path):
    """As ModelOpt mixes them in Qwen3.6: the config names each module, which the tensors tell anyway."""
    folder = tmp_path / "checkpoint"
    model = save("qwen3_5_moe_text", folder)
    encode, _ = nvfp4.modelopt_nvfp4(2.0**-10)
    dense = quantized.convert(folder, any_of(EXPERTS, SHARED), encode, {})
    layers = {name.removesuffix(".weight"): {"quant_algo": algorithm, "group_size": 16} for name in dense}
    others = quantized.convert(folder, any_of(ATTENTION, DELTA_NET), whole_fp8(), {})
    layers |= {name.removesuffix(".weight"): {"quant_algo": "FP8"} for name in others}
    mixed = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    quantized.edit_config(folder, quantization_config=mixed | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}})
    nets, attending = count_layers(model)
    layer = model.config.layer_types.index("full_attention")
    scales = {f"model.layers.{layer}.self_attn.{part}_proj.{part}_scale": torch.tensor(1.0) for part in "kv"}
    quantized.edit_tensors(folder, lambda tensors: tensors.update(scales))
    reference = score(model, folder, dense | others)
    assert off(export(folder), reference) < 1e-3
    found = read_origins(export(folder, changes=["routed-experts=int4"]))
    assert found["routed experts", "nvfp4", "codes unchanged"] == (nets + attending) * 8 * 3
    assert found["attention", "fp8, one scale", "dequantized"] == 5 * attending + 3 * nets


def test_nemotron_in_nvfp4(tmp_path):
    """Experts without gates, and projections of Mamba-2 whose last rows decide how much is forgotten."""
    folder = tmp_path / "checkpoint"
    model = save("nemotron_h", folder, **NEMOTRON)
    chosen = any_of(
        EXPERTS, r".*\.shared_experts\.\w+_proj", r".*layers\.0\.mixer\.(in|out)_proj", r".*5\.mixer\.\w+_proj"
    )
    encode, config = nvfp4.modelopt_nvfp4(2.0**-10)
    kept = ["lm_head", *(f"backbone.layers.{i}.mixer.conv1d" for i in (0, 3)), "backbone.layers.3.mixer.in_proj"]
    dense = quantized.convert(folder, chosen, encode, config | {"exclude_modules": kept, "kv_cache_quant_algo": "FP8"})
    assert len(dense) == 2 * (8 * 2 + 2) + 2 + 2
    reference = score(model, folder, dense)
    assert off(export(folder), reference) < 1e-3
    found = read_origins(export(folder, changes=["routed-experts=int4"]))
    assert found["routed experts", "nvfp4", "codes unchanged"] == 2 * 8 * 2
    assert off(folder.with_name("fp32-if"), reference) < 1e-3


def test_gemma_in_nvfp4(tmp_path):
    """A module an expert where its makers have all in one tensor, and a learnt number an expert behind them."""
    folder = tmp_path / "checkpoint"
    model = save("gemma4_text", folder)
    encode, config = nvfp4.modelopt_nvfp4(2.0**-10)
    kept = {"exclude_modules": ["lm_head", "model.vision_tower*", "model.layers.0.router*"]}
    dense = quantized.convert(folder, any_of(EXPERTS, r".*\.mlp\.\w+_proj"), encode, config | kept)
    layers = model.config.num_hidden_layers
    assert len(dense) == layers * (8 * 3 + 3)
    reference = score(model, folder, dense)
    assert off(export(folder), reference) < 1e-3
    found = read_origins(export(folder, changes=["routed-experts=int4"]))
    assert found["routed experts", "nvfp4", "codes unchanged"] == layers * 8 * 3
    assert off(folder.with_name("fp32-if"), reference) < 1e-3


LEFT_OUT = {f"-:.*{part}.*": {} for part in ("attn", "shared_expert", "mtp", "visual")}  # as GPTQModel says it
INTEGERS = {
    "gptq of Qwen3.5": ("qwen3_5_moe_text", quantized.gptq(4, 64), {"dynamic": LEFT_OUT}, "int4-block64", (EXPERTS,)),
    "awq of Qwen3.5": (
        "qwen3_5_moe_text", quantized.awq(32), {"modules_to_not_convert": ["visual", "linear_attn"]},
        "int4-block32-zp", (EXPERTS, SHARED, ATTENTION),
    ),
    "awq of all projections": (
        "qwen3_5_moe_text", quantized.awq(32), {}, "int4-block32-zp", (EXPERTS, SHARED, ATTENTION, DELTA_NET),
    ),
    "gptq of Qwen3-Next": (
        "qwen3_next", quantized.gptq(4, 64), {}, "int4-block64", (EXPERTS, SHARED, ATTENTION, DELTA_NET),
    ),
    "w4a16 of North Mini Code": (
        "cohere2_moe", quantized.packed(4, 32), {}, "int4-block32", (EXPERTS, ATTENTION),
    ),
    "w4a16 of Laguna": ("laguna", quantized.packed(4, 32), {}, "int4-block32", (EXPERTS, SHARED, ATTENTION)),
    "w4a16 of Granite 4": (
        "granitemoehybrid", quantized.packed(4, 32), {}, "",
        (ATTENTION, r".*mamba\.(in|out)_proj", r".*shared_mlp\..*"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_keep_their_codes(name, tmp_path):
    family, (encode, config), more, scheme, chosen = INTEGERS[name]
    folder = tmp_path / "checkpoint"
    model = save(family, folder)
    dense = quantized.convert(folder, any_of(*chosen), encode, config | more)
    assert dense
    reference = score(model, folder, dense)
    assert off(export(folder), reference) < 1e-3
    told = read_origins(export(folder, scheme or "int4-block32", "native"))
    kept = {group for group, form, outcome in told if form != "f32" and outcome == "codes unchanged"}
    assert ("routed experts" in kept) == (scheme != "")
    assert ("attention" in kept) == (ATTENTION in chosen)
