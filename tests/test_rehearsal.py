"""The dry run before an export consumes what the export consumes, costs what the bundle costs, and reads nothing."""

import numpy as np
import pytest
import quantized_checkpoints as quantized
import tiny_families
import tiny_models as tiny
from test_export_failures import edit_tensors
from test_formats_models import CONFIG, FORMATS
from tiny_hybrids import WITHOUT_FUSED

from moedge.export import bundle
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.outline import Outline
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

PLANS = [("fp32", "if"), ("int4", "if"), ("int4", "fused")]
# Whether GPTQ has zero points, or an order of its own, is told by values.
BY_VALUES = {"gptq, zero points", "gptq 8 bits", "gptq act-order"}


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Export tmp_path's checkpoint: the rehearsal, the tensors that were read in earnest, and the manifest."""
    seen = {}

    def rehearse(*arguments):
        seen["rehearsal"] = real_rehearse(*arguments)
        return seen["rehearsal"]

    def close(source, *failure):
        if type(source) is Checkpoint:
            seen["consumed"] = source.consumed()
        real_close(source, *failure)

    real_rehearse, real_close = bundle.rehearse, Checkpoint.__exit__
    monkeypatch.setattr(bundle, "rehearse", rehearse)
    monkeypatch.setattr(Checkpoint, "__exit__", close)

    def export(scheme, plan):
        options = ExportOptions(parse_plan(scheme), plan)
        manifest = export_bundle(tmp_path / "checkpoint", tmp_path / f"{scheme}-{plan}", options)
        return seen["rehearsal"], seen["consumed"], manifest

    return export


def costs(groups, plan):
    """Parameters and bytes by group and scheme; the `if` plan stores zero points also where all are the middle."""
    return {(g.name, g.scheme): (g.parameters, g.bytes if plan != ("int4", "if") else 0) for g in groups}


def holds(export, plan, exactly=True):
    rehearsal, consumed, manifest = export(*plan)
    assert rehearsal.extra_biases == ()
    assert len(consumed) == len(set(consumed))
    assert rehearsal.consumed == set(consumed)
    if exactly:
        assert costs(rehearsal.groups, plan) == costs(manifest.tensors, plan)


@pytest.mark.parametrize("plan", [*PLANS, ("int4", "native")], ids="-".join)
@pytest.mark.parametrize("family", tiny_families.MAKERS)
def test_every_family_consumes_what_its_dry_run_says(family, plan, export, tmp_path):
    if plan[1] == "fused" and family in WITHOUT_FUSED:
        pytest.skip("onnxruntime has no experts like these, and the export says so")
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    holds(export, plan)


@pytest.mark.parametrize("shape", tiny_families.SHAPES)
def test_every_shape_of_a_family_too(shape, export, tmp_path):
    tiny.save_checkpoint(tiny_families.SHAPES[shape], tmp_path / "checkpoint", 0)
    holds(export, ("fp32", "if"))


@pytest.mark.parametrize("plan", PLANS, ids="-".join)
@pytest.mark.parametrize("name", FORMATS)
def test_every_number_format_too(name, plan, export, tmp_path):
    (encode, config), _ = FORMATS[name]
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    quantized.convert(tmp_path / "checkpoint", quantized.LINEAR, encode, config)
    holds(export, plan, exactly=name not in BY_VALUES)


@pytest.mark.parametrize("plan", PLANS, ids="-".join)
def test_mxfp4_in_three_dimensions_too(plan, export, tmp_path):
    tiny.save_checkpoint(tiny_families.small("gpt_oss", intermediate_size=96), tmp_path / "checkpoint", 0)
    quantized.mxfp4_experts(tmp_path / "checkpoint", 0)
    holds(export, plan)


@pytest.mark.parametrize("plan", PLANS, ids="-".join)
@pytest.mark.parametrize("change", [0.0, 1.0])
def test_a_head_beside_a_tied_embedding_too(change, plan, export, tmp_path):
    """Whether it is the embedding once more, only its values tell."""
    config = tiny_families.quantizable("mixtral", tie_word_embeddings=True)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)

    def add_head(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + np.float32(change)

    edit_tensors(tmp_path / "checkpoint", add_head)
    holds(export, plan, exactly=change != 0)


def test_an_outline_keeps_an_account_of_its_own_and_never_reads(tmp_path):
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    with Checkpoint(tmp_path / "checkpoint") as source:
        outline = Outline(source)
        norm = outline.read_parameter("model.norm.weight", 128)
        assert (norm.shape, norm.any(), outline.faults) == ((128,), False, {})
        assert (outline.consumed(), source.consumed()) == (["model.norm.weight"], [])
        assert outline.peek("lm_head.weight") is None
        with pytest.raises(AssertionError, match=r"model\.norm\.weight is read in a dry run"):
            outline.read("model.norm.weight")


def test_an_export_that_reads_less_than_its_dry_run_said_is_no_bundle(tmp_path, monkeypatch):
    """A fault of our own: a weight would be missing from the bundle, and nobody told."""
    tiny.save_checkpoint(CONFIG, tmp_path / "checkpoint", 0)
    real = Checkpoint.consumed
    monkeypatch.setattr(Checkpoint, "consumed", lambda source: real(source) if type(source) is Outline else [])
    with pytest.raises(AssertionError, match="though the dry run says so"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
    assert not (tmp_path / "bundle").exists()
