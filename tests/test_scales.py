"""Scales in fp16: codes made for them, what fp16 does not hold, published scales, bundles, the choice of the type."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_bundle import tiny_manifest

from moedge.devices.errors import MoedgeError
from moedge.export import rehearsal
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.blocks import ScaleError, dequantize, hold_scales, quantize, row_factors
from moedge.quant.grids import holds, joint_scheme
from moedge.quant.scheme import SCHEME_NAMES, parse_scheme, scheme_of
from moedge.runtime import Engine
from moedge.runtime.manifest import TensorGroup, read_manifest, write_manifest
from moedge.runtime.sizes import disk_bits_per_weight, memory_bytes

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
QUANTIZED = [name for name in SCHEME_NAMES if name != "fp32"]
IDS = np.random.default_rng(0).integers(2, 211, 60).tolist()
CONFIG = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=128, num_hidden_layers=2, num_experts=4)


def export(folder, name, scheme="int4", scale_dtype=None, experts="fused", changes=()):
    options = ExportOptions(parse_plan(scheme, changes), experts, scale_dtype=scale_dtype)
    export_bundle(folder / "checkpoint", folder / name, options)
    return folder / name


def scales_of(bundle):
    """What the scales of each quantized group are kept in."""
    return {group.name: group.scales for group in read_manifest(bundle).tensors if group.block}


@given(arrays(np.float32, 8, elements=st.floats(-60000, 60000, width=32)), st.sampled_from(["float16", "bfloat16"]))
def test_held_scales_are_numbers_of_their_type_and_close(scales, kept):
    held = hold_scales(scales, kept)
    assert np.array_equal(held.astype(DTYPES[kept]).astype(np.float32), held)
    nearest = scales.astype(DTYPES[kept]).astype(np.float32)
    usual = np.abs(nearest) >= 2.0**-14
    assert np.array_equal(held[usual], nearest[usual])
    assert np.isfinite(held).all()
    assert held.all()
    there = np.abs(scales) > 1e-30
    exact, held = np.abs(scales[there]), np.abs(held[there])
    distance = exact * 2.0**-8 if kept == "bfloat16" else np.maximum(exact * 2.0**-11, 2.0**-24)
    assert (np.abs(held - exact) <= distance).all()
    if kept == "float16":
        assert (held >= exact)[exact < 2.0**-14].all()


@example(np.array([[4.679e-32] + [0] * 7, [0] * 8], np.float32), False)  # below what a row's largest may be
@given(arrays(np.float32, (2, 8), elements=st.floats(-60000, 60000, width=32)), st.booleans())
def test_scales_in_float8_are_numbers_of_it_times_a_number_of_bfloat16_a_row(scales, up):
    held = hold_scales(scales, "float8", up)
    factors = row_factors(held)
    assert np.array_equal(factors.astype(ml_dtypes.bfloat16).astype(np.float32), factors)
    eight = (held / factors).astype(ml_dtypes.float8_e4m3fn)
    assert np.array_equal(eight.astype(np.float32) * factors, held)
    assert held.all()
    largest = np.abs(scales).max(-1, keepdims=True)
    there = (np.abs(scales) > 1e-25) & (np.abs(scales) >= largest * 2.0**-13)
    exact, size, least = np.abs(scales[there]), np.abs(held[there]), np.broadcast_to(factors, held.shape)[there] / 512
    if up:
        assert (size >= exact).all()
    assert (np.abs(size - exact) <= exact * (0.13 if up else 0.065) + least).all()
    assert (
        np.abs(np.abs(held).max(-1, keepdims=True) / np.maximum(largest, 1e-25) - 1)[largest > 1e-25] < 2.0**-7
    ).all()


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 1e5])
def test_codes_are_made_for_the_scales_that_are_kept(name, size):
    """No weight is further off than by a step of its exact grid, or by the least number of fp16."""
    scheme = parse_scheme(name)
    weight = (np.random.default_rng(0).standard_normal((7, 256)) * size).astype(np.float32)
    weight[3] *= np.float32(1e-6)  # a row of other size, as padding tokens have
    exact, held = quantize(weight, scheme), quantize(weight, scheme.with_scales("float16"))
    assert np.array_equal(held.scales.astype(np.float16).astype(np.float32), held.scales)
    step = np.repeat(np.abs(exact.scales), scheme.block, axis=1)
    error = np.abs(dequantize(held) - weight)
    assert np.isfinite(error).all()
    assert (error <= np.maximum(step * 1.001, step / 2 + 2.0**-24)).all()
    if size >= 1e-2:
        usual = np.delete(error, 3, axis=0)
        assert np.square(usual).sum() < 1.01 * np.square(np.delete(dequantize(exact) - weight, 3, axis=0)).sum()


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("size", [1e8, 3e38])
def test_scales_beyond_fp16_are_refused_and_those_of_bf16_are_not(name, size):
    weight = np.full((1, 256), size, np.float32)
    weight[0, ::2] *= -1
    with pytest.raises(ScaleError, match="too large for float16"):
        quantize(weight, parse_scheme(name).with_scales("float16"))
    kept = quantize(weight, parse_scheme(name).with_scales("bfloat16"))
    assert np.abs(dequantize(kept) / weight - 1).max() < 0.15


@pytest.mark.parametrize("kept", ["float16", "bfloat16"])
def test_a_schemes_cost_counts_its_scales(kept):
    assert scheme_of(4, 32, True).nbytes(10, 640) == 3200 + 800 + 100
    assert scheme_of(4, 32, True, kept).nbytes(10, 640) == 3200 + 400 + 100
    assert scheme_of(5, 32, True, "float8").nbytes(10, 640) == 4000 + 200 + 20 + 200
    assert parse_scheme("fp32").with_scales(kept) == parse_scheme("fp32")
    group = TensorGroup("attention", "int4-block32", 4, 32, 6400, 3600, kept)
    fused = replace(tiny_manifest(), tensors=(group,))
    assert disk_bits_per_weight(group) == 4.5
    exact = replace(group, bytes=4000, scales="float32")
    assert memory_bytes(group, fused) - memory_bytes(exact, fused) == group.cast_bytes == 800
    table = replace(group, name="embedding")
    tied, apart = (replace(fused, tensors=(table, *more)) for more in ((), (replace(group, name="lm_head"),)))
    assert memory_bytes(table, apart) == 3600 + 800
    assert memory_bytes(table, tied) == 3600 + 800 + 4800


def test_a_manifest_says_what_scales_are_kept_in(tmp_path):
    plain = tiny_manifest()
    write_manifest(plain, tmp_path)
    assert read_manifest(tmp_path) == plain
    half = replace(plain, tensors=(replace(plain.tensors[0], scales="float16"), *plain.tensors[1:]))
    write_manifest(half, tmp_path)
    assert read_manifest(tmp_path) == half


def test_published_scales_are_held_by_their_own_type_and_by_fp32():
    half, brain, exact = (scheme_of(4, 32, False, kept) for kept in ("float16", "bfloat16", "float32"))
    assert all(holds(exact, native) and holds(native, native) for native in (half, brain, exact))
    assert not any(holds(half, native) or holds(brain, other) for native, other in ((brain, half), (exact, exact)))
    assert joint_scheme([half, half], [64]) == half
    assert joint_scheme([half, brain], [64]) == joint_scheme([half, exact], [64]) == exact


FORMATS = {
    "fp16": (quantized.gptq(4, 32), None, "float16"),
    "fp16, zero points": (quantized.awq(32), None, "float16"),
    "bf16": (quantized.packed(4, 32), torch.bfloat16, "bfloat16"),
    "fp32": (quantized.packed(4, 32), torch.float32, "float32"),
    "powers of two": (quantized.compressed_mxfp4(), None, "bfloat16"),
}


# four-bit floats keep the bytes of their scales where a kernel reads them
OF_EXPERTS = {("powers of two", "if"): "float32", ("powers of two", "fused"): "float8e8m0"}


@pytest.mark.parametrize("experts", ["if", "fused"])
@pytest.mark.parametrize("name", FORMATS)
def test_published_scales_stay_as_they_are(name, experts, tmp_path):
    """Bit for bit: bundles with scales in fp32 give the same logits, and are larger where those were halves."""
    (encode, config), dtype, kept = FORMATS[name]
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, encode, config)
    if dtype is not None:
        scales = ".weight_scale"
        quantized.edit_tensors(
            tmp_path / "checkpoint",
            lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items() if n.endswith(scales)}),
        )
    fp32 = ["embedding=fp32", "lm_head=fp32"]
    short, wide = (export(tmp_path, t, "int4", t, experts, fp32) for t in ("float16", "float32"))
    of_experts = OF_EXPERTS.get((name, experts), kept)
    assert scales_of(short) == {"attention": kept, "routed experts": of_experts}
    as_bytes = of_experts == "float8e8m0"
    assert scales_of(wide) == {"attention": "float32", "routed experts": of_experts if as_bytes else "float32"}
    origins = json.loads((short / "report.json").read_text())["origins"]
    assert {o["outcome"] for o in origins if o["group"] in scales_of(short)} == {"codes unchanged"}
    both = [Engine.load(bundle).score(IDS).view(np.uint32) for bundle in (short, wide)]
    assert np.array_equal(*both)
    sizes = [sum(group.bytes for group in read_manifest(bundle).tensors) for bundle in (short, wide)]
    assert (sizes[0] < sizes[1]) == (kept != "float32")


def test_codes_beside_plain_matrices_stay_with_their_scales(tmp_path):
    """Scales in bf16 beside weights that are rounded: fp32 holds both, so that nothing is rounded twice."""
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    encode, config = quantized.packed(4, 32)
    quantized.convert(tmp_path / "checkpoint", r".*\.experts\.\d\.up_proj", encode, config)
    bundle = export(tmp_path, "bundle", "int4-block32", "float16")
    assert scales_of(bundle)["routed experts"] == "float32"
    assert scales_of(bundle)["attention"] == "float16"
    origins = json.loads((bundle / "report.json").read_text())["origins"]
    assert ("routed experts", "codes unchanged") in {(o["group"], o["outcome"]) for o in origins}


@pytest.mark.parametrize("scheme", ["int4", "int8", "int4-block32-zp", "int5", "int6-zp"])
def test_every_kernel_of_a_bundle_reads_constants(scheme, tmp_path):
    """A cast that stayed would cost QMoE its fast kernel; a tied table is cast once."""
    config = tiny_families.quantizable("qwen2_moe", tie_word_embeddings=True)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    bundle = export(tmp_path, "bundle", scheme)
    few = "float16" if scheme == "int8" else "float8"
    assert scales_of(bundle)["routed experts"] == scales_of(bundle)["attention"] == few
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    ort.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    seen = set()
    for node in graph.node:
        if node.op_type in ("QMoE", "MatMulNBits", "GatherBlockQuantized"):
            seen.add(node.op_type)
            assert {name for name in node.input if ".scales" in name} <= constants
            assert any(".scales" in name for name in node.input)
            assert node.input[1 if node.op_type == "MatMulNBits" else 2 if node.op_type == "QMoE" else 0] in constants
    assert seen == {"QMoE", "MatMulNBits", "GatherBlockQuantized"}
    stored = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    casts = [node.input[0] for node in stored.node if node.op_type == "Cast" and ".scales" in node.input[0]]
    assert len(casts) == len(set(casts))
    assert "model.embed_tokens.scales" in casts


def test_large_bundles_keep_scales_in_fp32_unless_told_otherwise(tmp_path, monkeypatch):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    half = export(tmp_path, "half")
    assert set(scales_of(half).values()) == {"float16", "float8"}
    cast = sum(group.cast_bytes for group in read_manifest(half).tensors)
    monkeypatch.setattr(rehearsal, "MOST_CAST_BYTES", cast)
    assert scales_of(export(tmp_path, "just")) == scales_of(half)
    monkeypatch.setattr(rehearsal, "MOST_CAST_BYTES", cast - 1)
    large, forced = export(tmp_path, "large"), export(tmp_path, "forced", scale_dtype="float16")
    assert set(scales_of(large).values()) == {"float32"}
    assert set(scales_of(forced).values()) == {"float16"}
    notes = [json.loads((bundle / "report.json").read_text())["notes"] for bundle in (large, forced)]
    assert [sum("scales are stored as float32" in note for note in said) for said in notes] == [1, 0]


@pytest.mark.parametrize("experts", ["if", "fused"])
def test_weights_that_fp16_scales_do_not_hold(tmp_path, experts):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    name = "model.layers.1.self_attn.o_proj"

    def multiply(factor):
        quantized.edit_tensors(tmp_path / "checkpoint", lambda t: t[f"{name}.weight"].mul_(factor))

    def notes(bundle):
        return [n for n in json.loads((bundle / "report.json").read_text())["notes"] if "float16" in n]

    assert notes(export(tmp_path, "usual", "int4", "float16", experts)) == []
    multiply(1e-8)
    [note] = notes(export(tmp_path, "small", "int4", "float16", experts))
    assert note.startswith(f"{name}: its weights are so small that scales in float16 do not hold them: use --scale-d")
    for other in ("float8", "float32"):
        assert notes(export(tmp_path, f"small-{other}", "int4", other, experts)) == []
    multiply(1e16)
    with pytest.raises(MoedgeError, match=rf"{name} .* too large for float16\): use --scale-dtype float8\.$"):
        export(tmp_path, "large", "int4", "float16", experts)
    for other in ("float8", "float32"):
        bundle = export(tmp_path, f"large-{other}", "int4", other, experts)
        assert np.isfinite(Engine.load(bundle).score(IDS)).all()
