"""What a dry run refuses: all that is missing, misshapen or left over, together, before a byte of a weight is read."""

import time

import numpy as np
import pytest
import quantized_checkpoints as quantized
import relaid
import tiny_families
import tiny_models as tiny
from safetensors.numpy import load_file
from test_export_failures import edit_config, edit_tensors

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.shard import Shard
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan

CONFIG = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=128, num_hidden_layers=2, num_experts=4)
EXPERT = "model.layers.1.mlp.experts.3"


@pytest.fixture
def checkpoint(tmp_path):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


@pytest.fixture(params=["fp32-if", "int4-if", "int4-fused"])
def options(request):
    scheme, plan = request.param.split("-")
    return ExportOptions(parse_plan(scheme), plan)


INT4 = ExportOptions(parse_plan("int4"))


def refusal(checkpoint, monkeypatch, options=INT4):
    """The sentence, without the folder's name; no byte was read, and nothing was made."""
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "read", lambda _, name, *__: pytest.fail(f"{name} was read"))
        before = sorted(checkpoint.parent.iterdir())
        progress = ExportProgress(on_stage=lambda stage: pytest.fail(f"{stage} was begun"))
        with pytest.raises(MoedgeError) as caught:
            export_bundle(checkpoint, checkpoint.parent / "bundle", options, progress)
        assert sorted(checkpoint.parent.iterdir()) == before
    said = str(caught.value)
    assert said.endswith(".")
    assert "download" not in said
    assert "incomplete" not in said
    return said.removeprefix(f"{checkpoint}: ")


TOGETHER = "config.json and the tensors do not belong together"


def drop(*parts):
    """Without the tensors whose name has one of these parts."""

    def edit(tensors):
        for name in [n for n in tensors if any(part in n for part in parts)]:
            del tensors[name]

    return edit


@pytest.mark.parametrize(
    ("edit", "changes", "said"),
    [
        (
            lambda t: t.update({"v_head.summary.weight": np.ones((1, 128), np.float32)}),
            {},
            f"v_head.summary.weight has no place in qwen3_moe: {TOGETHER}, correct config.json or leave these "
            "tensors "
            "out.",
        ),
        (
            drop(f"{EXPERT}.down_proj"),
            {},
            f"{EXPERT}.down_proj.weight is missing: {TOGETHER}, take both from the same model.",
        ),
        (
            lambda t: t.update({f"{EXPERT}.down_proj.weight": np.ones((448, 128), np.float32)}),
            {},
            f"{EXPERT}.down_proj.weight has the shape (448, 128) where the config says (128, 128): {TOGETHER}, "
            "take both from the same model.",
        ),
        (drop("lm_head"), {}, f"lm_head.weight is missing: {TOGETHER}, take both from the same model."),
        (
            drop(),
            {"num_hidden_layers": 1},
            "model.layers.1.input_layernorm.weight, model.layers.1.mlp.experts.0.down_proj.weight, "
            "model.layers.1.mlp.experts.0.gate_proj.weight and 18 more have no place in qwen3_moe: "
            f"{TOGETHER}, correct config.json or leave these tensors out.",
        ),
        (
            drop("model.norm", "layers.0.self_attn.q_norm"),
            {},
            "model.layers.0.self_attn.q_norm.weight and model.norm.weight are missing: "
            f"{TOGETHER}, take both from the same model.",
        ),
    ],
)
def test_one_kind_of_fault(checkpoint, edit, changes, said, options, monkeypatch):
    edit_tensors(checkpoint, edit)
    edit_config(checkpoint, **changes)
    assert refusal(checkpoint, monkeypatch, options) == said


def test_all_kinds_in_one_sentence(checkpoint, monkeypatch):
    def edit(tensors):
        drop("layers.0.mlp.experts.2")(tensors)
        for expert in range(4):
            tensors[f"model.layers.1.mlp.experts.{expert}.up_proj.weight"] = np.ones((2, 2), np.float32)
        tensors["model.layers.0.mlp.shared_expert.up_proj.weight"] = np.ones((2, 2), np.float32)

    edit_tensors(checkpoint, edit)
    up = "model.layers.1.mlp.experts.{}.up_proj.weight has the shape (2, 2) where the config says (128, 128)"
    gone = [f"model.layers.0.mlp.experts.2.{part}_proj.weight" for part in ("gate", "up", "down")]
    assert refusal(checkpoint, monkeypatch) == (
        f"{gone[0]}, {gone[1]} and {gone[2]} are missing; "
        f"{', '.join(up.format(e) for e in range(3))} and 1 more of another shape; "
        "model.layers.0.mlp.shared_expert.up_proj.weight has no place in qwen3_moe: "
        f"{TOGETHER}, take both from the same model."
    )


def test_names_of_another_layout_are_shown_side_by_side(checkpoint, monkeypatch):
    edit_tensors(
        checkpoint, lambda t: [t.update({n.replace(".layers.", ".h."): t.pop(n)}) for n in [*t] if ".layers." in n]
    )
    count = sum(".h." in name for name in load_file(checkpoint / "model.safetensors"))
    said = refusal(checkpoint, monkeypatch)
    assert said.startswith("model.layers.0.input_layernorm.weight, ")
    assert said.count(f"and {count - 3} more") == 2
    assert "are missing; model.h.0.input_layernorm.weight, " in said


@pytest.mark.parametrize("part", ["correction_bias", "bias", "sinks", "experts.down_proj_bias", "norm"])
@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss", "lfm2_moe", "phimoe"])
def test_parameters_are_looked_at_too(family, part, tmp_path, monkeypatch):
    """Every tensor with such a name is missing in one checkpoint, and has one row more in another."""
    for fault in ("is missing", "has the shape"):
        checkpoint = tmp_path / fault / "checkpoint"
        tiny.save_checkpoint(tiny_families.quantizable(family), checkpoint, 0)
        chosen = [name for name in load_file(checkpoint / "model.safetensors") if part in name]
        for name in chosen[:1]:
            if fault == "is missing":
                edit_tensors(checkpoint, drop(name))
            else:
                edit_tensors(checkpoint, lambda t, name=name: t.update({name: np.repeat(t[name], 2, axis=0)}))
            assert f"{name} {fault}" in refusal(checkpoint, monkeypatch)


@pytest.mark.parametrize(
    ("part", "missing"), [("conv.conv", False), ("conv.conv", True), ("embed_q", False), ("unembed_out", True)]
)
def test_a_parameter_in_the_layout_of_mlx_is_one_fault_among_others(part, missing, tmp_path, monkeypatch):
    family, checkpoint = "lfm2_moe" if part == "conv.conv" else "deepseek_v3", tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny_families.quantizable(family), checkpoint, 0)
    path = checkpoint / "model.safetensors"
    tensors = relaid.as_mlx(quantized.load_file(path), heads=4, nope=16)
    name = next(name for name in tensors if name.endswith(f"{part}.weight"))
    tensor = tensors.pop(name)
    kept = {} if missing else {name: tensor[1:].clone()}
    quantized.save_file(tensors | kept | {"v_head": tensor[0].clone()}, path, {"format": "pt"})
    said = refusal(checkpoint, monkeypatch)
    assert said.startswith(f"{name} {'is missing' if missing else 'has the shape'}")
    assert f"; v_head has no place in {family}: " in said


CODES = {
    "packed": (quantized.packed(4, 32, False), ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")),
    "int8": (quantized.int8(), ("weight", "weight_scale")),
    "fp8": (quantized.fp8(), ("weight", "weight_scale_inv")),
    "mxfp4": (quantized.compressed_mxfp4(), ("weight_packed", "weight_scale")),
    "gptq": (quantized.gptq(4, 32), ("qweight", "scales", "qzeros", "g_idx")),
    "awq": (quantized.awq(32), ("qweight", "scales", "qzeros")),
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, (_, parts) in CODES.items() for part in parts])
def test_every_tensor_of_published_codes_has_its_shape(checkpoint, name, part, monkeypatch):
    """And those beside a misshapen one are not said to have no place."""
    quantized.convert(checkpoint, quantized.EXPERTS, *CODES[name][0])
    tensor = f"{EXPERT}.up_proj.{part}"
    quantized.edit_tensors(checkpoint, lambda t: t.update({tensor: t[tensor].repeat([3] * t[tensor].dim())}))
    said = refusal(checkpoint, monkeypatch)
    assert said.startswith(f"{tensor} has the shape ")
    assert said.endswith(f": {TOGETHER}, take both from the same model.")
    assert "no place" not in said


def test_experts_in_three_dimensions(tmp_path, monkeypatch):
    """One tensor is one fault, however many experts it holds."""
    checkpoint = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny_families.quantizable("gpt_oss"), checkpoint, 0)
    name = "model.layers.1.mlp.experts.down_proj"
    edit_tensors(checkpoint, lambda t: t.update({name: t[name][:, 1:].copy()}))
    assert refusal(checkpoint, monkeypatch) == (
        f"{name} has the shape (8, 63, 128) where the config says (8, 64, 128): {TOGETHER}, "
        "take both from the same model."
    )
    edit_tensors(checkpoint, lambda t: [t.pop(name), t.update({"model.stray": np.ones(3, np.float32)})])
    assert refusal(checkpoint, monkeypatch) == (
        f"{name} is missing; model.stray has no place in gpt_oss: {TOGETHER}, take both from the same model."
    )
    edit_tensors(checkpoint, lambda t: [t.pop("model.stray"), t.update({name: np.ones((9, 64, 128), np.float32)})])
    assert refusal(checkpoint, monkeypatch).startswith(f"{name} has the shape (9, 64, 128) where the config says (8, ")
    quantized.mxfp4_experts(checkpoint, 0)
    quantized.edit_tensors(checkpoint, lambda t: t.update({f"{name}_blocks": t[f"{name}_blocks"][:5].clone()}))
    said = refusal(checkpoint, monkeypatch)
    assert said.startswith(f"{name}_")
    assert said.count("has the shape") == 1
    assert "no place" not in said


def test_a_scheme_that_does_not_fit_is_told_before_anything_is_read(tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny_families.SHAPES["mixtral-tied-odd"], checkpoint, 0)
    assert "cannot be quantized (the input dimension 21 " in refusal(checkpoint, monkeypatch)
    edit_tensors(checkpoint, drop("model.norm"))
    assert refusal(checkpoint, monkeypatch).startswith("model.norm.weight is missing")


def test_a_bias_that_must_be_zeros_is_read_first(checkpoint, monkeypatch):
    """Only its values tell whether it has a place; nothing else is read, and nothing is begun."""
    quantized.convert(checkpoint, quantized.EXPERTS, *quantized.gptq(4, 32))
    bias = f"{EXPERT}.up_proj.bias"
    edit_tensors(checkpoint, lambda t: t.update({bias: np.full(128, 1e-3, np.float32)}))
    names, read = [], Shard.read
    monkeypatch.setattr(Shard, "read", lambda shard, name, *part: names.append(name) or read(shard, name, *part))
    progress = ExportProgress(on_stage=lambda stage: pytest.fail(f"{stage} was begun"))
    with pytest.raises(MoedgeError, match=rf"{bias} has no place in qwen3_moe"):
        export_bundle(checkpoint, checkpoint.parent / "bundle", INT4, progress)
    assert names == [bias]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 1 << 31}, "model.embed_tokens.weight has the shape"),
        ({"hidden_size": 1 << 31}, "model.embed_tokens.weight has the shape"),
        ({"num_attention_heads": 1 << 30}, "model.layers.0.self_attn.q_proj.weight has the shape"),
        ({"moe_intermediate_size": 1 << 31}, "model.layers.0.mlp.experts.0.gate_proj.weight has the shape"),
        ({"num_experts": 1 << 31}, "model.layers.0.mlp.gate.weight has the shape"),
        ({"num_hidden_layers": 4096}, "model.layers.2.input_layernorm.weight, "),
    ],
)
def test_a_config_of_nonsense_costs_neither_time_nor_memory(checkpoint, changes, said, monkeypatch):
    edit_config(checkpoint, **changes)
    before = time.process_time()
    assert refusal(checkpoint, monkeypatch).startswith(said)
    assert time.process_time() - before < 20
