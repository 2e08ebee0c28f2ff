"""Where a decoder's tensors stand, by any prefix; and what contradicts itself, which is refused in one sentence."""

import pytest
import relaid
import tiny_families
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

UP = "model.layers.1.mlp.experts.gate_up_proj"
DOWN = "model.layers.1.mlp.experts.down_proj"


def export(folder, tensors=None):
    """weights.bin."""
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    export_bundle(folder, folder.with_name("bundle"), ExportOptions(parse_plan("int4"), force=True))
    return (folder.with_name("bundle") / "weights.bin").read_bytes()


def save(family, tmp_path, **changes):
    tiny.save_checkpoint(tiny_families.quantizable(family, **changes), tmp_path / "checkpoint", 0)
    return load_file(tmp_path / "checkpoint/model.safetensors")


@pytest.mark.parametrize("family", ["qwen3_moe", "lfm2_moe", "qwen3_5_moe_text", "gemma4_text", "nemotron_h"])
@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("model.language_model.", ""),
        ("model.language_model.", "model."),
        ("language_model.model.", "language_model."),
        ("backbone.", ""),
        ("", ""),
        ("module.model.", "module."),
        ("model.", "model."),
        ("thinker.text.model.", "thinker.text."),
        ("base_model.model.model.", "base_model.model."),
    ],
)
def test_where_the_embedding_is_the_decoder_is(family, prefix, head, tmp_path):
    tensors = {name.replace("backbone.", "model."): tensor for name, tensor in save(family, tmp_path).items()}
    published = export(tmp_path / "checkpoint")
    moved = {
        head + name if name.startswith("lm_head") else name.replace("model.", prefix, 1): tensor
        for name, tensor in tensors.items()
    }
    assert export(tmp_path / "checkpoint", moved) == published


def test_a_prediction_layer_with_an_embedding_of_its_own_is_no_second_decoder(tmp_path):
    tensors = save("deepseek_v3", tmp_path)
    published = export(tmp_path / "checkpoint")
    tensors |= {f"model.layers.3.{name}.weight": torch.zeros(3) for name in ("embed_tokens", "shared_head.norm")}
    nested = {name.replace("model.", "model.language_model.", 1): tensor for name, tensor in tensors.items()}
    assert export(tmp_path / "checkpoint", tensors) == published
    assert export(tmp_path / "checkpoint", nested) == published


def turned(tensors, name):
    return {n: t.transpose(1, 2).contiguous() if n == name else t for n, t in tensors.items()}


def packed(tensors):
    tensors = {name: tensor for name, tensor in tensors.items() if name != UP}
    shapes = {"weight_packed": (8, 96, 16), "weight_scale": (8, 96, 4), "weight_shape": (3,)}
    kinds = {name: torch.float32 if name == "weight_scale" else torch.int32 for name in shapes}
    return tensors | {f"{UP}.{name}": torch.zeros(shape, dtype=kinds[name]) for name, shape in shapes.items()}


def beside(name):
    return lambda tensors: tensors | {name: torch.zeros(3)}


def dropping(name):
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


def instead(tensor):
    return lambda tensors: tensors | {UP: tensor}


# of experts in one tensor, [8, 96, 128] and [8, 128, 48]
WRONG = {
    "gate and up turned": (
        lambda t: turned(t, UP),
        r"shape \(8, 128, 96\), the other way round: moedge reads \(8, 96, 128\) there, gate before up",
    ),
    "down turned": (lambda t: turned(t, DOWN), r"down_proj has the shape \(8, 48, 128\), the other way round"),
    "an expert more": (instead(torch.zeros(9, 96, 128)), r"\(9, 96, 128\) where the config says \(8, 96, 128\)"),
    "experts one above the other": (instead(torch.zeros(8 * 96, 128)), r"\(768, 128\) where the config says"),
    "no down": (dropping(DOWN), r"model\.layers\.1\.mlp\.experts\.down_proj is missing: .* take both"),
    "quantized": (packed, r"gate_up_proj\.weight_packed holds all experts quantized in one tensor"),
    "fp8": (instead(torch.zeros(8, 96, 128).to(torch.float8_e4m3fn)), r"gate_up_proj is stored as F8_E4M3"),
    "both": (
        beside("model.layers.1.mlp.experts.0.gate_proj.weight"),
        r"holds .*experts\.0\.gate_proj and .*experts\.gate_up_proj, the same weights in two layouts: keep one",
    ),
    "none at all": (dropping(UP), r"model\.layers\.1\.mlp\.experts\.0\.gate_proj\.weight, .* more are missing"),
    "an image's": (beside("model.visual.embed_tokens.weight"), r"model\.visual\.embed_.* has no place in qwen3_moe"),
    "two decoders": (
        lambda t: t | {f"talker.{name}": tensor.clone() for name, tensor in t.items()},
        r"holds two decoders, model\.layers and talker\.model\.layers: keep the one",
    ),
    "two routers": (
        beside("model.layers.0.mlp.router.weight"),
        r"mlp\.router\.weight and .*mlp\.gate\.weight, which are the same: keep one",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_contradiction_is_one_sentence(wrong, tmp_path):
    change, match = WRONG[wrong]
    tensors = relaid.lay_out(save("qwen3_moe", tmp_path, moe_intermediate_size=48), "transformers 5")
    with pytest.raises(MoedgeError, match=match):
        export(tmp_path / "checkpoint", change(tensors))


def test_gate_and_up_of_gpt_oss_alternate_only_as_its_makers_store_them(tmp_path):
    """The other way round nothing tells whether its rows alternate or stand in halves."""
    tensors = save("gpt_oss", tmp_path, intermediate_size=96)
    match = r"gate_up_proj has the shape .*, the other way round: .* gate and up in turn"
    with pytest.raises(MoedgeError, match=match):
        export(tmp_path / "checkpoint", turned(tensors, UP))


def test_down_tells_where_gate_and_up_are_as_wide_as_high(tmp_path):
    tensors = relaid.lay_out(save("qwen3_moe", tmp_path, moe_intermediate_size=64), "transformers 5")
    assert tensors[UP].shape == (8, 128, 128)
    with pytest.raises(MoedgeError, match=r"down_proj has the shape \(8, 64, 128\), the other way round"):
        export(tmp_path / "checkpoint", turned(turned(tensors, UP), DOWN))
