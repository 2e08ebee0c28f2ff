"""A decoder is a list of blocks: graphs of any run of them, layers that differ in their mixer, no weight read twice."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import tiny_families
import tiny_models as tiny
import torch
from segments import Segments
from tiny_hybrids import WITHOUT_FUSED

from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.builder import Builder
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan
from moedge.quant.rounding import NEAREST
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest
from moedge.runtime.sizes import memory_bytes

IDS = np.random.default_rng(0).integers(2, 211, 40)


def hidden_states(model, ids):
    """transformers' hidden states before each layer, and the logits."""
    with torch.no_grad():
        out = model(torch.from_numpy(ids)[None], output_hidden_states=True)
    return [state[0].numpy() for state in out.hidden_states], out.logits[0].numpy()


HYBRIDS = ("qwen3_5_moe_text", "granitemoehybrid", "nemotron_h", "gemma4_text", "cohere2_moe", "afmoe")


@pytest.mark.parametrize("family", ["deepseek_v3", "granitemoe", "lfm2_moe", "gpt_oss", "phimoe", *HYBRIDS])
def test_a_graph_can_begin_and_end_at_any_layer(family, tmp_path):
    makers = tiny_families.MAKERS
    config = makers[family]() if family in makers else getattr(tiny, family)()
    states, logits = hidden_states(tiny.save_checkpoint(config, tmp_path / "checkpoint", 0), IDS)
    segments = Segments(tmp_path / "checkpoint", tmp_path / "segments")
    kept = segments.model.multipliers.residual  # between layers they are divided by it
    given = IDS
    for layer in range(segments.model.num_hidden_layers - 1):
        given = segments.run(layer, layer + 1, given)
        assert np.abs(kept * given - states[layer + 1]).max() < 1e-4 * np.abs(states[layer + 1]).max()
    last = segments.run(segments.model.num_hidden_layers - 1, None, given)
    assert np.abs(last - logits).max() < 1e-4 * np.abs(logits).max()


def test_no_layer_at_all_is_the_embedding(tmp_path):
    states, _ = hidden_states(tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0), IDS)
    assert np.array_equal(Segments(tmp_path / "checkpoint", tmp_path / "segments").run(0, 0, IDS), states[0])


@pytest.mark.parametrize("scheme", ["fp32", "int4"])
def test_each_layer_has_its_own_rope_window_and_heads(scheme, tmp_path):
    """A model of two kinds of layers is, layer by layer, the model of either kind."""
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)

    def turn(mixer):
        return replace(mixer, rope=replace(mixer.rope, theta=100.0), window=7)

    def mixed(model):
        first, second, third = model.mixers
        return replace(model, mixers=(first, turn(second), third))

    def turned(model):
        return replace(model, mixers=tuple(turn(mixer) for mixer in model.mixers))

    models = {"plain": lambda model: model, "turned": turned, "mixed": mixed}
    by = {name: Segments(tmp_path / "checkpoint", tmp_path / name, change, scheme) for name, change in models.items()}
    whole = by["mixed"].run(0, None, IDS)
    chained = by["plain"].run(2, None, by["turned"].run(1, 2, by["plain"].run(0, 1, IDS)))
    largest = np.abs(whole).max()
    # in int4, activations keep fp32 up to the first router of each graph, and have 8 bits after it
    assert np.median(np.abs(chained - whole).max(axis=-1)) < (1e-5 if scheme == "fp32" else 0.02) * largest
    for other in ("plain", "turned"):
        assert np.median(np.abs(by[other].run(0, None, IDS) - whole).max(axis=-1)) > 0.1 * largest


@pytest.mark.parametrize(
    ("family", "plan"),
    [(f, p) for f in tiny_families.MAKERS for p in ("native", "if", "fused") if p != "fused" or f not in WITHOUT_FUSED],
)
def test_no_byte_of_a_checkpoint_is_read_twice(family, plan, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    totals, read = [], []
    progress = ExportProgress(on_total=totals.append, on_read=read.append)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4"), plan), progress)
    assert 0 < sum(read) <= sum(totals)


QUANTIZED = ("int4", "int4-block32-zp", "int8")


@pytest.mark.parametrize(
    ("plan", "scheme"), [("if", "fp32"), *((plan, scheme) for plan in ("if", "fused") for scheme in QUANTIZED)]
)
def test_every_byte_of_the_weights_is_in_a_group(plan, scheme, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable("mixtral"), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan(scheme), plan))
    graph = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    nested = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    places, inside = {}, 0
    for tensor in (tensor for each in (graph, *nested) for tensor in each.initializer):
        data = {entry.key: entry.value for entry in tensor.external_data}
        if data:
            places[data["offset"]] = int(data["length"])
        elif tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= 32:
            inside += 4 * int(np.prod(tensor.dims))  # norms
    manifest = read_manifest(tmp_path / "bundle")
    assert sum(group.bytes for group in manifest.tensors) == sum(places.values()) + inside
    unquantized = [group for group in manifest.tensors if group.scheme == "fp32"]
    assert {(group.bits, group.block) for group in unquantized} == {(32, 0)}
    assert all(memory_bytes(group, manifest) == group.bytes == 4 * group.parameters for group in unquantized)


class Halved:
    """A rounding with a mark of its own: every scale is half as large, and every call is noted."""

    name = "halved"

    def __init__(self):
        self.matrices = []

    def __call__(self, matrix, weights, scheme):
        self.matrices.append(matrix)
        codes = NEAREST(matrix, weights, scheme)
        return replace(codes, scales=codes.scales / 2)


@pytest.mark.parametrize("plan", ["if", "fused"])
def test_what_rounds_is_passed_in(plan, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable("qwen2_moe"), tmp_path / "checkpoint", 0)
    halved, scheme = Halved(), parse_plan("int4")
    for name, rounding in (("nearest", NEAREST), ("halved", halved)):
        options = ExportOptions(scheme, plan, rounding=rounding)
        export_bundle(tmp_path / "checkpoint", tmp_path / name, options)
    with Checkpoint(tmp_path / "checkpoint") as source:
        quantized = {n.removesuffix(".weight") for n in source.dtypes() if n.endswith("_proj.weight")}
    assert set(halved.matrices) == quantized | {"model.embed_tokens", "lm_head"}
    nearest, other = (
        np.frombuffer((tmp_path / name / "weights.bin").read_bytes(), np.uint8) for name in ("nearest", "halved")
    )
    assert nearest.shape == other.shape
    logits = [Engine.load(tmp_path / name).score(IDS.tolist()) for name in ("nearest", "halved")]
    assert 1.5 < np.abs(logits[0]).max() / np.abs(logits[1]).max() < 3  # the head's scales are half


def test_nodes_are_named_by_scope_and_only_repeated_names_are_numbered():
    b = Builder(None)
    with b.scope("model.layers.0"):
        names = [b.op(kind, b.ints(1)).producer().name for kind in ("Neg", "Abs", "Neg")]
    assert names == ["model.layers.0/Neg", "model.layers.0/Abs", "model.layers.0/Neg_1"]
