"""The tensors that are there decide the layout: a model, however it is laid out and named, is the same bundle."""

import json
from dataclasses import replace

import numpy as np
import pytest
import relaid
import tiny_families
import tiny_models as tiny
import torch
from quantized_checkpoints import EXPERTS, awq, convert, gptq, packed
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.block import Block
from moedge.export.graph.moe import open_experts
from moedge.export.model.layouts import with_norms_as_stored
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.understanding import understand
from moedge.runtime import Engine

IDS = np.random.default_rng(0).integers(8, 211, 40)
AS_HELD = ("gpt_oss", "granitemoe_swa", "gemma4", "gemma4_text")  # published with the names that transformers has


def export(folder, scheme="fp32"):
    """model.onnx and weights.bin."""
    bundle = folder.with_name(f"{folder.name}-bundle")
    export_bundle(folder, bundle, ExportOptions(parse_plan(scheme), force=True))
    return [(bundle / name).read_bytes() for name in ("model.onnx", "weights.bin")]


def rewrite(folder, tensors):
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("family", tiny_families.MAKERS)
def test_as_transformers_holds_it_in_memory(family, tmp_path):
    """Experts in one tensor, and whatever else it renames: every name that is not the published one."""
    model = tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    published = {scheme: export(tmp_path / "checkpoint", scheme) for scheme in ("fp32", "int4")}
    names = set(load_file(tmp_path / "checkpoint/model.safetensors"))
    model.save_pretrained(tmp_path / "checkpoint", save_original_format=False)
    held = set(load_file(tmp_path / "checkpoint/model.safetensors"))
    assert (names == held) == (family in AS_HELD)
    assert not any(".experts.0." in name for name in held)
    for scheme, bundle in published.items():
        assert export(tmp_path / "checkpoint", scheme) == bundle
    export_bundle(tmp_path / "checkpoint", tmp_path / "fused", ExportOptions(parse_plan("fp32")))
    reference = tiny.reference_logits(model, IDS)
    ours = Engine.load(tmp_path / "fused").score(IDS.tolist())
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()


OTHERS = ("gemma4_text", "cohere2_moe", "granitemoehybrid", "granitemoe_swa", "qwen3_5_moe", "laguna")


@pytest.mark.parametrize("family", ["qwen3_moe", "phimoe", "granitemoeshared", "kimi_k25", "gpt_oss", *OTHERS])
def test_as_other_tools_write_it(family, tmp_path):
    """A family each of those whose makers name and lay out experts in a way of their own; what is read is one code."""
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    published = export(tmp_path / "checkpoint", "int4")
    tensors = load_file(tmp_path / "checkpoint/model.safetensors")
    for layout in relaid.LAYOUTS:
        if (family, layout) in (("gpt_oss", "Granite"), ("gpt_oss", "transformers 5, as modules")):
            continue  # nobody writes it so, and nothing would tell the order of its rows
        changed = relaid.lay_out(tensors, layout)
        assert export(rewrite(tmp_path / "checkpoint", changed), "int4") == published, layout


LATENT = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite")


@pytest.mark.parametrize("family", [*LATENT, "lfm2_moe", "granitemoehybrid", "mellum"])
@pytest.mark.parametrize("scheme", ["fp32", "int4"])
def test_all_that_mlx_writes_otherwise(family, scheme, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    published = export(tmp_path / "checkpoint", scheme)
    tensors = load_file(tmp_path / "checkpoint/model.safetensors")
    changed = relaid.as_mlx(tensors, heads=4, nope=16)
    assert export(rewrite(tmp_path / "checkpoint", changed), scheme) == published
    if family in LATENT:
        both = changed | {name: tensor for name, tensor in tensors.items() if "kv_b_proj" in name}
        with pytest.raises(MoedgeError, match=r"kv_b_proj.weight and .*embed_q.weight, the same weights"):
            export(rewrite(tmp_path / "checkpoint", both), scheme)


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "qwen3_next"])
def test_mlx_adds_to_norms_what_a_family_adds(family, tmp_path):
    """And turns a delta net's convolution, which alone tells; its own norm nobody adds anything to."""
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    tensors = relaid.as_mlx(load_file(tmp_path / "checkpoint/model.safetensors"), heads=4, nope=16)
    found = []
    for changed in (load_file(tmp_path / "checkpoint/model.safetensors"), tensors):
        with Checkpoint(rewrite(tmp_path / "checkpoint", changed)) as source:
            model = understand(source, ExportOptions(parse_plan("fp32"))).model
            found.append(with_norms_as_stored(source, replace(model, norm_offset=1.0)).norm_offset)
    assert found == [1.0, 0.0]


@pytest.mark.parametrize(
    ("family", "spelling"),
    [
        ("mixtral", {"block_sparse_moe.gate.": "mlp.router.", "block_sparse_moe": "mlp", "w1": "gate_proj"}),
        ("mixtral", {"block_sparse_moe": "feed_forward"}),
        ("phimoe", {"block_sparse_moe": "mlp"}),
        ("granitemoe", {"block_sparse_moe": "mlp", "router.layer": "gate"}),
        ("gpt_oss", {"mlp.router": "mlp.router.linear"}),
        ("qwen3_moe", {".mlp.": ".block_sparse_moe."}),
        ("deepseek_v3", {"gate.e_score_correction_bias": "e_score_correction_bias"}),
        ("glm4_moe", {"gate.e_score_correction_bias": "moe_statics.e_score_correction_bias"}),
        ("lfm2_moe", {"expert_bias": "gate.e_score_correction_bias", "feed_forward": "mlp"}),
        ("lfm2_moe", {".w1.": ".gate_proj.", ".w3.": ".up_proj.", ".w2.": ".down_proj."}),
        ("laguna", {"mlp.gate.": "mlp.gate.proj.", "mlp.experts.e_score": "mlp.gate.e_score"}),
        ("laguna", {"mlp.shared_expert.": "mlp.shared_experts."}),
        ("qwen3_next", {"mlp.shared_expert.": "mlp.shared_experts."}),
        ("granitemoe_swa", {"block_sparse_moe": "mlp", "moe.router.": "moe.router.layer."}),
        ("granitemoehybrid", {"router.layer": "gate"}),
        ("nemotron_h", {"backbone.": "model."}),
        ("afmoe", {"router.gate": "gate", "mlp.expert_bias": "mlp.gate.e_score_correction_bias"}),
    ],
)
def test_modules_under_other_names(family, spelling, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    published = export(tmp_path / "checkpoint", "int4")
    tensors = load_file(tmp_path / "checkpoint/model.safetensors")
    if spelling.pop("w1", None):
        spelling |= {".w1.": ".gate_proj.", ".w3.": ".up_proj.", ".w2.": ".down_proj."}
    changed = {}
    for name, tensor in tensors.items():
        for old, new in spelling.items():
            name = name.replace(old, new)
        changed[name] = tensor
    assert set(changed) != set(tensors)
    assert export(rewrite(tmp_path / "checkpoint", changed), "int4") == published


SHARING = ("granitemoehybrid", "laguna", "afmoe", "cohere2_moe", "qwen3_5_moe_text", "gemma4_text", "mellum")


@pytest.mark.parametrize(
    "family", ["deepseek_v2", "glm4_moe", "qwen2_moe", "granitemoeshared", "ernie4_5_moe", *SHARING]
)
def test_dense_and_shared_experts_in_one_matrix_or_two(family, tmp_path):
    changes = {
        "deepseek_v2": {"mlp_bias": True}, "ernie4_5_moe": {"use_bias": True},
        "mellum": {"mlp_layer_types": ["dense", "sparse", "sparse"]},
    }.get(family, {})  # fmt: skip
    tiny.save_checkpoint(tiny_families.quantizable(family, **changes), tmp_path / "checkpoint", 0)
    published = export(tmp_path / "checkpoint", "int4")
    tensors, changed = load_file(tmp_path / "checkpoint/model.safetensors"), {}
    for name, tensor in tensors.items():
        if "shared_mlp.input_linear" in name:
            gate, up = tensor.clone().chunk(2)
            changed |= {
                name.replace("input_linear", "gate_proj"): gate.clone(),
                name.replace("input_linear", "up_proj"): up.clone(),
            }
        elif "gate_proj" in name and ".experts." not in name and "self_attn" not in name:
            changed[name.replace("gate_proj", "gate_up_proj")] = torch.cat(
                [tensor, tensors[name.replace("gate_proj", "up_proj")]]
            )
        elif "up_proj" not in name or ".experts." in name:
            changed[name.replace("shared_mlp.output_linear", "shared_mlp.down_proj")] = tensor
    assert set(changed) != set(tensors)
    assert export(rewrite(tmp_path / "checkpoint", changed), "int4") == published


@pytest.mark.parametrize("layout", ["transformers 5", "transformers 5, as modules", "an expert, gate and up in one"])
def test_biases_in_halves_like_their_matrices(layout, tmp_path):
    """No family has both yet: gpt-oss's experts, as one that keeps gate before up would store them."""
    tiny.save_checkpoint(tiny_families.quantizable("gpt_oss"), tmp_path / "checkpoint", 0)
    tensors = load_file(tmp_path / "checkpoint/model.safetensors")
    written = []
    for change in (tensors, relaid.lay_out(tensors, layout, in_halves=True)):
        with Checkpoint(rewrite(tmp_path / "checkpoint", change)) as source:
            model = understand(source, ExportOptions(parse_plan("fp32"))).model
            names = replace(model.names, joint_rows="in_turn" if change is tensors else "halves")
            block = Block(None, source, replace(model, names=names), 1)
            experts = open_experts(block, model.hidden_size, names.post_attention_norm)
            read = [np.stack([m.read(0, m.shape[0]) for m in part]) for part in (experts.gate_up, experts.down)]
            written.append((*read, experts.gate_up_bias, experts.down_bias))
    for published, ours in zip(*written, strict=True):
        assert np.array_equal(published, ours)


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("encoded", [packed(), gptq(), awq()], ids=["compressed-tensors", "gptq", "awq"])
def test_quantized_experts_in_any_layout_keep_their_codes(encoded, family, tmp_path):
    """Whether a tool quantizes gate and up apart or as one matrix, each row has the same codes."""
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    tensors, written = load_file(tmp_path / "checkpoint/model.safetensors"), []
    for layout in ("an expert, three matrices", "an expert, gate and up in one", "unsloth"):
        convert(rewrite(tmp_path / "checkpoint", relaid.lay_out(tensors, layout)), EXPERTS, *encoded)
        written.append(export(tmp_path / "checkpoint", "int4"))
        origins = json.loads((tmp_path / "checkpoint-bundle/report.json").read_text())["origins"]
        assert {o["outcome"] for o in origins if o["group"] == "routed experts"} == {"codes unchanged"}
    assert written[0] == written[1] == written[2]


def test_kimi_vl_is_deepseek_v3_within_another_config(tmp_path):
    """No class of transformers has it; names and nesting are its makers'."""
    model = tiny.save_checkpoint(tiny.deepseek_v3(), tmp_path / "checkpoint", 0)
    text = json.loads((tmp_path / "checkpoint/config.json").read_text())
    config = {"model_type": "kimi_vl", "text_config": text, "vision_config": {"model_type": "moonvit"}}
    (tmp_path / "checkpoint/config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "checkpoint/model.safetensors")
    tensors = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
    beside = {name: torch.full((3,), torch.nan) for name in (
        "vision_tower.patch_embed.proj.weight", "vision_tower.encoder.blocks.0.wqkv.weight",
        "multi_modal_projector.linear_1.weight", "vision_tower.text.embed_tokens.weight",
        "vision_tower.text.layers.0.weight",
    )}  # fmt: skip
    options = ExportOptions(parse_plan("fp32"))
    export_bundle(rewrite(tmp_path / "checkpoint", tensors | beside), tmp_path / "bundle", options)
    reference = tiny.reference_logits(model, IDS)
    ours = Engine.load(tmp_path / "bundle").score(IDS.tolist())
    assert np.abs(ours - reference).max() <= 1e-3 * np.abs(reference).max()
    stray = {"audio_tower.proj.weight": torch.zeros(3)}
    with pytest.raises(MoedgeError, match=r"audio_tower.* has no place in kimi_vl"):
        export(rewrite(tmp_path / "checkpoint", tensors | stray))
