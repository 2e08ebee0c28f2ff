"""Calibration beside an export: statistics are those of the text, and bundles are nearer to the checkpoint."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.calibration.calibrated import Calibrated
from moedge.export.calibration.calibrator import Calibrator
from moedge.export.calibration.statistics import FIRST_TOKEN, LayerInputs
from moedge.export.calibration.texts import CalibrationText, built_in_mix, read_text
from moedge.export.calibration.windows import WINDOW, cut_windows
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.export.understanding import understand
from moedge.export.writing.journal import UnfinishedError
from moedge.quant.blocks import dequantize
from moedge.quant.rounding import NEAREST
from moedge.quant.search import SEARCHED
from moedge.runtime import Engine

WINDOWS = np.random.default_rng(0).integers(2, 211, (6, 64))
UNSEEN = np.random.default_rng(1).integers(2, 211, (4, 64))


def passages(start):
    return tuple(f"passage {i}: {'abcdefgh'[i % 8] * (i % 23)} {i * 7919}" for i in range(start, start + 300))


WORDS = CalibrationText("words", passages(0))
INT4 = ExportOptions(parse_plan("int4-block32-zp"), rounding=SEARCHED)
CALIBRATED = replace(INT4, calibration=WORDS)


@pytest.fixture
def checkpoint(tmp_path):
    """A model with a few large channels behind each norm, as trained ones have; the function is that of even ones."""
    config = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    path = tmp_path / "checkpoint/model.safetensors"
    tensors = load_file(path)
    rng = np.random.default_rng(2)
    for norm, readers in (("input_layernorm", ("q_proj", "k_proj", "v_proj")), ("post_attention_layernorm", ("mlp",))):
        for layer in range(config.num_hidden_layers):
            sizes = np.where(rng.random(128) < 0.04, 30, 1).astype(np.float32)
            at = f"model.layers.{layer}."
            tensors[f"{at}{norm}.weight"] = tensors[f"{at}{norm}.weight"] * sizes
            for name, tensor in tensors.items():
                if name.startswith(at) and any(part in name for part in readers) and tensor.shape[1:] == (128,):
                    tensors[name] = tensor / sizes
    save_file(tensors, path, {"format": "pt"})
    return tmp_path / "checkpoint"


def unseen(checkpoint):
    """Windows of a text of the same kind."""
    with Checkpoint(checkpoint) as source:
        tokenizer = Tokenizer.from_str(understand(source, INT4).talking.tokenizer)
    return cut_windows(tokenizer, passages(1000), 211)[:6, :128]


def kl(bundle, checkpoint):
    ids = unseen(checkpoint)
    reference = tiny.load_checkpoint(checkpoint)
    engine, values = Engine.load(bundle), []
    for row in ids:
        ours, theirs = engine.score(row.tolist()), tiny.reference_logits(reference, row)
        p, q = (z - np.logaddexp.reduce(z, -1, keepdims=True) for z in (theirs, ours))
        values.append((np.exp(p) * (p - q)).sum(-1))
    return np.mean(values)


def test_a_calibrated_bundle_is_nearer_to_its_checkpoint(checkpoint, tmp_path):
    found = {}
    for name, options in {
        "nearest": replace(INT4, rounding=NEAREST),
        "searched": INT4,
        "calibrated": CALIBRATED,
    }.items():
        export_bundle(checkpoint, tmp_path / name, options)
        found[name] = kl(tmp_path / name, checkpoint)
    assert found["calibrated"] < 0.2 * min(found["nearest"], found["searched"]), found
    report = json.loads((tmp_path / "calibrated/report.json").read_text())
    assert report["rounding"] == "gptq, calibrated by words"


def test_factors_of_channels_spare_activations_of_eight_bits(checkpoint, tmp_path):
    eight = ExportOptions(parse_plan("int8"))
    for name, calibration in (("plain", None), ("calibrated", WORDS)):
        export_bundle(checkpoint, tmp_path / name, replace(eight, calibration=calibration))
    assert kl(tmp_path / "calibrated", checkpoint) < 0.5 * kl(tmp_path / "plain", checkpoint)


@pytest.mark.parametrize("scheme", ["mxfp4", "nvfp4"])
def test_four_bit_floats_are_calibrated_too(scheme, checkpoint, tmp_path):
    """Factors of channels and GPTQ in their grids; fp32 activations, so that the twin shows the same."""
    plan = parse_plan("fp32", [f"routed-experts={scheme}"])
    for name, calibration in (("searched", None), ("calibrated", WORDS)):
        export_bundle(checkpoint, tmp_path / name, ExportOptions(plan, "fused", calibration=calibration))
    export_bundle(checkpoint, tmp_path / "twin", ExportOptions(plan, "if", calibration=WORDS))
    found = {name: kl(tmp_path / name, checkpoint) for name in ("searched", "calibrated", "twin")}
    assert found["calibrated"] < 0.7 * found["searched"], found
    assert found["calibrated"] == pytest.approx(found["twin"], rel=1e-3)


def test_the_exact_twin_has_the_same_codes(checkpoint, tmp_path):
    """Both plans round by the same statistics: they differ by activations in int8 alone."""
    for plan in ("fused", "if"):
        export_bundle(checkpoint, tmp_path / plan, replace(CALIBRATED, experts=plan))
    ids = UNSEEN[0].tolist()
    fused, exact = (Engine.load(tmp_path / plan).score(ids) for plan in ("fused", "if"))
    assert np.median(np.abs(fused - exact)) < 0.03 * exact.std()


def test_the_same_text_gives_the_same_bytes_and_resumes(checkpoint, tmp_path):
    def stop(stage):
        if stage == "layer 2":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    export_bundle(checkpoint, tmp_path / "one", CALIBRATED)
    with pytest.raises(UnfinishedError, match="--resume"):
        export_bundle(checkpoint, tmp_path / "two", CALIBRATED, ExportProgress(on_stage=stop))
    other = replace(CALIBRATED, resume=True, calibration=replace(WORDS, name="other words"))
    with pytest.raises(UnfinishedError, match="begun with rounding gptq, calibrated by words"):
        export_bundle(checkpoint, tmp_path / "two", other)
    export_bundle(checkpoint, tmp_path / "two", replace(CALIBRATED, resume=True))
    for name in ("weights.bin", "model.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "one", "two"]


def test_statistics_are_those_of_the_tokens_that_chose_an_expert(checkpoint):
    at, inputs = "model.layers.1.mlp", None
    with Checkpoint(checkpoint) as source:
        model = understand(source, INT4).model
        inputs, taps = LayerInputs(model.experts.gate), []
        with StreamedModel(source, model, WINDOWS) as stream:
            stream.run_layer()
            stream.run_layer(lambda place, seen: (taps.append(seen), inputs.collect(place, seen)))
        counts = inputs.coverage()
        assert counts.sum() == WINDOWS.size * model.experts.num_experts_per_tok
        expert = int(counts.argmax())
        x, weights = [], []
        for seen in taps:
            tokens, places = np.nonzero(seen.routed.chosen == expert)
            x.append(seen.routed.x[tokens])
            weights.append(seen.routed.shares[tokens, places] ** 2 * np.where(tokens == 0, FIRST_TOKEN, 1))
        x, weights = np.concatenate(x), np.concatenate(weights)
        sample = inputs.sample(f"{at}.experts.{expert}.up_proj")
        assert np.array_equal(sample.rows, x)
        assert np.allclose(sample.moments, (x**2 * weights[:, None]).sum(0) / weights.sum(), rtol=1e-4)
        assert np.allclose(np.diagonal(sample.hessian(None)), sample.moments, rtol=1e-4)
        factors = np.linspace(1, 2, 128, dtype=np.float32)
        assert np.allclose(sample.hessian(factors) * np.outer(factors, factors), sample.hessian(None), atol=1e-4)
        gate, up = (source.read_float(f"{at}.experts.{expert}.{part}_proj.weight") for part in ("gate", "up"))
        inner = (x @ gate.T) / (1 + np.exp(-(x @ gate.T))) * (x @ up.T)
        assert np.allclose(inputs.sample(f"{at}.experts.{expert}.down_proj").rows, inner, atol=1e-4)
        assert inputs.sample("lm_head") is None


def test_an_expert_that_few_tokens_chose_is_searched_by_all_of_them(checkpoint):
    with Checkpoint(checkpoint) as source:
        model = understand(source, INT4).model
        rounding = Calibrated("gptq")
        with Calibrator(source, model, WINDOWS[:1, :8], INT4.scheme, rounding) as calibrator:
            calibrator.prepare(0)
            counts = calibrator.coverage[0]
            assert counts.min() < 8
            sample = rounding.inputs.sample(f"model.layers.0.mlp.experts.{int(counts.argmin())}.gate_proj")
            assert not sample.own
            assert len(sample.rows) == 8


def test_windows_are_spread_over_the_text(checkpoint):
    with Checkpoint(checkpoint) as source:
        tokenizer = Tokenizer.from_str(understand(source, INT4).talking.tokenizer)
    windows = cut_windows(tokenizer, ["x" * 40000, "y" * 40000, "\xff" * 999], 211, bos=1)
    assert windows.shape == (48, WINDOW)
    assert (windows[:, 0] == 1).all()
    assert np.unique(windows).max() < 211
    assert np.isin([89, 90], windows[:, 1:]).all()
    assert cut_windows(tokenizer, ["aaaa"], 211).shape == (1, 4)
    with pytest.raises(MoedgeError, match="hardly any tokens"):
        cut_windows(tokenizer, ["a"], 211)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(MoedgeError, match="is not text in UTF-8"):
        read_text(tmp_path / "binary")
    with pytest.raises(MoedgeError, match="cannot be read"):
        read_text(tmp_path / "missing")
    (tmp_path / "text").write_text("\ufeffHello", encoding="utf-8")
    assert read_text(tmp_path / "text").passages == ("Hello",)


def test_the_mix_is_written_in_the_models_template():
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    rendered = built_in_mix().render(template)
    assert len(rendered) == len(built_in_mix().passages) + len(built_in_mix().conversations)
    assert sum(text.startswith(("<user>", "<system>")) for text in rendered) > 20
    plain = built_in_mix().render(None)
    assert not any(text.startswith("<user>") for text in plain)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_rounded_by_what_it_multiplies(tmp_path, tied, monkeypatch):
    """Its products on a text of the same kind are nearer than those of a table that was searched without one."""
    config = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64, tie_word_embeddings=tied)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    name, seen, real = "model.embed_tokens" if tied else "lm_head", {}, Calibrated.__call__

    def remember(rounding, matrix, weights, scheme):
        seen[matrix] = weights, real(rounding, matrix, weights, scheme), scheme
        return seen[matrix][1]

    monkeypatch.setattr(Calibrated, "__call__", remember)
    plan = parse_plan("fp32", [f"{'embedding' if tied else 'lm_head'}=int4-block32"])
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(plan, calibration=WORDS))
    weights, codes, scheme = seen[name]
    with Checkpoint(tmp_path / "checkpoint") as source:
        model = understand(source, INT4).model
        with StreamedModel(source, model, unseen(tmp_path / "checkpoint")) as stream:
            for _ in range(model.num_hidden_layers):
                stream.run_layer()
            x = stream.read_head().reshape(-1, 128)
            with stream.open_head() as head:
                assert np.allclose(head(stream.hidden[0]), x[:128] @ weights.T, atol=1e-4)
    calibrated, searched = (
        np.square(x @ (dequantize(each) - weights).T).sum() for each in (codes, SEARCHED(name, weights, scheme))
    )
    assert calibrated < 0.7 * searched


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "granitemoehybrid", "nemotron_h", "gemma4_text", "laguna"])
def test_models_whose_layers_differ_are_nearer_too(family, tmp_path):
    """By what experts without gates, delta nets, Mamba-2 and gates of attention read."""
    checkpoint = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny_families.quantizable(family), checkpoint, 0)
    found = {}
    for name, options in (("nearest", replace(INT4, rounding=NEAREST)), ("calibrated", CALIBRATED)):
        export_bundle(checkpoint, tmp_path / name, replace(options, experts="if"))
        found[name] = kl(tmp_path / name, checkpoint)
    assert found["calibrated"] < 0.8 * found["nearest"], found
