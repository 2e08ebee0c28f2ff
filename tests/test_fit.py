"""Sizes estimated from headers alone against the bundles that come of them."""

import pytest
import quantized_checkpoints
import tiny_models as tiny

from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.hub.fit import estimate, memory_note
from moedge.export.hub.preview import TensorHeader, preview
from moedge.export.options import ExportOptions
from moedge.export.rehearsal import rehearse
from moedge.export.schemes import parse_plan
from moedge.export.understanding import understand
from moedge.runtime.sizes import model_memory_bytes


@pytest.fixture(scope="module", params=["plain", "packed", "tied"])
def checkpoint(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("sizes") / request.param
    config = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64, tie_word_embeddings=request.param == "tied")
    tiny.save_checkpoint(config, folder, 0)
    if request.param == "packed":
        quantized_checkpoints.pack_experts(folder)
    return folder


def estimated(opened, options):
    understood, plan = understand(opened, options), options.decided().plan
    model, context = understood.model, understood.context
    groups = rehearse(opened, model, context, options.scheme, plan, options.scale_dtype).groups
    return estimate(groups, model.tie_word_embeddings, plan)


@pytest.mark.parametrize(
    "scheme",
    [
        "fp32",
        "int8",
        "int4",
        "int4-block32-zp",
        "int5",
        "int6-zp embedding=int6 attention=int5",
        "int4 embedding=fp32 attention=int8",
        "int8 embedding=int4",
    ],
)
@pytest.mark.parametrize("plan", ["native", "fused"])
@pytest.mark.parametrize("scale_dtype", [None, "float32"])
def test_estimates_are_what_the_bundle_takes(checkpoint, tmp_path, scheme, scale_dtype, plan):
    """To the byte: the dry run's graph is the bundle's."""
    name, *changes = scheme.split()
    options = ExportOptions(
        parse_plan(name, changes), "if" if name == "fp32" else plan, context=16, scale_dtype=scale_dtype
    )
    manifest = export_bundle(checkpoint, tmp_path / "bundle", options)
    with Checkpoint(checkpoint) as opened:
        size = estimated(opened, options)
    assert size.disk == sum(group.bytes for group in manifest.tensors)
    assert size.memory == model_memory_bytes(manifest)


def test_a_shard_of_any_size_takes_no_room_until_it_is_there(tmp_path, published):
    """A terabyte of one matrix, as a header tells of them."""
    width = 1 << 20
    header = {"w": TensorHeader("F32", (250_000, width), (0, 250_000 * width * 4))}
    with preview("hf://org/name", [published / "config.json"], {"model.safetensors": header}) as checkpoint:
        assert checkpoint.shape("w") == (250_000, width)
        assert checkpoint.dtypes() == {"w": "F32"}
        assert checkpoint.nbytes() > 10**12
        path = checkpoint.folder / "model.safetensors"
        assert path.stat().st_blocks * 512 < 1 << 20
    assert not path.exists()


def test_the_note_names_both_numbers(checkpoint):
    options = ExportOptions(parse_plan("int4"))
    with Checkpoint(checkpoint) as opened:
        size = estimated(opened, options)
    assert list(memory_note(size, size.memory)) == []
    assert [note.count(" MB") for note in memory_note(size, 50_000)] == [2]
