"""Tensors as published checkpoints name them: every one is consumed or rightly left out, any other stops the export.

Two layers of each family, the first dense where the family has dense ones.
"""

import json

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

TOP = "model.embed_tokens.weight model.norm.weight lm_head.weight"
NORMS = "input_layernorm.weight post_attention_layernorm.weight"
QKV = "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight"
QKV_BIAS = "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias"
GQA = f"{NORMS} {QKV} self_attn.o_proj.weight"
QK_NORM = "self_attn.q_norm.weight self_attn.k_norm.weight"
MLA = (
    f"{NORMS} self_attn.q_a_proj.weight self_attn.q_a_layernorm.weight self_attn.q_b_proj.weight "
    "self_attn.kv_a_proj_with_mqa.weight self_attn.kv_a_layernorm.weight self_attn.kv_b_proj.weight "
    "self_attn.o_proj.weight"
)


def each(module, *parts):
    return " ".join(f"{module}.{part}.weight" for part in parts)


PARTS = ("gate_proj", "up_proj", "down_proj")
DENSE = each("mlp", *PARTS)
EXPERTS = f"mlp.gate.weight {each('mlp.experts.#', *PARTS)}"
SHARED = each("mlp.shared_experts", *PARTS)
BIAS = "mlp.gate.e_score_correction_bias"
W_EXPERTS = f"block_sparse_moe.gate.weight {each('block_sparse_moe.experts.#', 'w1', 'w2', 'w3')}"
GRANITE = each("block_sparse_moe", "input_linear", "output_linear", "router.layer")
OSS = " ".join(f"mlp.experts.{part}{end}" for part in ("gate_up_proj", "down_proj") for end in ("", "_bias"))
DEEPSEEK = (f"{MLA} {DENSE}", f"{MLA} {EXPERTS} {BIAS} {SHARED}")
LFM2_NORMS = "operator_norm.weight ffn_norm.weight"
# top, layer 0, layer 1; `#` is the number of an expert
NAMES = {
    "mixtral": (TOP, *2 * [f"{GQA} {W_EXPERTS}"]),
    "deepseek_v2": (TOP, f"{MLA} {DENSE}", f"{MLA} {EXPERTS} {SHARED}"),
    "deepseek_v3": (TOP, *DEEPSEEK),
    "kimi_k2": (TOP, *DEEPSEEK),
    "kimi_k25": (TOP, *DEEPSEEK),
    "kimi_vl": (TOP, *DEEPSEEK),
    "glm4_moe_lite": (TOP, *DEEPSEEK),
    "qwen2_moe": (TOP, *2 * [
        f"{GQA} {QKV_BIAS} {EXPERTS} {each('mlp.shared_expert', *PARTS)} mlp.shared_expert_gate.weight"
    ]),
    "qwen3_moe": (TOP, *2 * [f"{GQA} {QK_NORM} {EXPERTS}"]),
    "olmoe": (TOP, *2 * [f"{GQA} {QK_NORM} {EXPERTS}"]),
    "granitemoe": (TOP, *2 * [f"{GQA} {GRANITE}"]),
    "granitemoeshared": (TOP, *2 * [f"{GQA} {GRANITE} {each('shared_mlp', 'input_linear', 'output_linear')}"]),
    "lfm2_moe": (
        "model.embed_tokens.weight model.embedding_norm.weight",
        f"{LFM2_NORMS} {each('conv', 'conv', 'in_proj', 'out_proj')} {each('feed_forward', 'w1', 'w2', 'w3')}",
        f"{LFM2_NORMS} {QKV} {each('self_attn', 'out_proj', 'q_layernorm', 'k_layernorm')} feed_forward.gate.weight "
        f"feed_forward.expert_bias {each('feed_forward.experts.#', 'w1', 'w2', 'w3')}",
    ),
    "gpt_oss": (TOP, *2 * [
        f"{GQA} {QKV_BIAS} self_attn.o_proj.bias self_attn.sinks mlp.router.weight mlp.router.bias {OSS}"
    ]),
    "ernie4_5_moe": (
        "model.embed_tokens.weight model.norm.weight",
        f"{GQA} {DENSE}", f"{GQA} {EXPERTS} mlp.moe_statics.e_score_correction_bias {SHARED}",
    ),
    "glm4_moe": (TOP, f"{GQA} {QKV_BIAS} {DENSE}", f"{GQA} {QKV_BIAS} {EXPERTS} {BIAS} {SHARED}"),
    "glm4v_moe": (TOP, f"{GQA} {QKV_BIAS} {DENSE}", f"{GQA} {QKV_BIAS} {EXPERTS} {BIAS} {SHARED}"),
    "dots1": (TOP, f"{GQA} {QK_NORM} {DENSE}", f"{GQA} {QK_NORM} {EXPERTS} {BIAS} {SHARED}"),
    "phimoe": (
        f"{TOP} model.norm.bias lm_head.bias",
        *2 * [f"{GQA} {NORMS.replace('weight', 'bias')} {QKV_BIAS} self_attn.o_proj.bias {W_EXPERTS}"],
    ),
}  # fmt: skip
NEXT = ("embed_tokens.weight", "enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.head.weight",
        "shared_head.norm.weight", "mlp.experts.0.gate_proj.weight", BIAS)  # fmt: skip
# what published checkpoints hold beside the decoder: the layer that predicts one token more, and a tower for images
BESIDE = {
    "deepseek_v3": [f"model.layers.2.{part}" for part in NEXT],
    "glm4_moe": [f"model.layers.2.{part}" for part in NEXT],
    "glm4_moe_lite": [f"model.layers.2.{part}" for part in NEXT],
    "glm4v_moe": ["model.visual.patch_embed.proj.weight", "model.visual.blocks.0.attn.qkv.weight",
                  "model.visual.merger.gate_proj.weight",
                  *(f"model.language_model.layers.2.{part}" for part in NEXT)],
    "kimi_vl": ["vision_tower.patch_embed.pos_emb.weight", "vision_tower.encoder.blocks.0.wqkv.weight",
                "multi_modal_projector.linear_1.weight", "multi_modal_projector.pre_norm.bias"],
    "ernie4_5_moe": [f"model.mtp_{part}.weight" for part in (
        "block.0.self_attn.q_proj", "block.0.mlp.up_proj", "emb_norm.0", "hidden_norm.0", "linear_proj.0",
    )],
    "kimi_k25": ["vision_tower.patch_embed.proj.weight", "vision_tower.encoder.blocks.0.wqkv.weight",
                 "vision_tower.encoder.final_layernorm.bias", "mm_projector.proj.0.weight",
                 "mm_projector.pre_norm.weight"],
}  # fmt: skip
FIRST_DENSE = ("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "kimi_vl", "glm4_moe", "glm4v_moe", "dots1")
NO_CLASS = ("kimi_k2", "kimi_vl")  # transformers has none: they are deepseek_v3 under other names
PREFIX = {"kimi_k25": "language_model.model.", "kimi_vl": "language_model.model.", "glm4v_moe": "model.language_model."}


def save(family, folder):
    """A tiny checkpoint with the names that transformers writes; Kimi's and the towers' as their makers do."""
    changes = {"num_hidden_layers": 2} | ({"first_k_dense_replace": 1} if family in FIRST_DENSE else {})
    if family == "lfm2_moe":
        changes |= {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}
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
        return {name.replace(".blocks.", ".layers."): t for name, t in tensors.items()}
    return tensors


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


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "ernie4_5_moe", "lfm2_moe"])
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
