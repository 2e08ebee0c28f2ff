"""A bundle's layers as its graph shows them: for every family and both plans, against the exact model's own."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import tiny_families
import tiny_hybrids
import tiny_models as tiny

from moedge.devices.profile import load_profile
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.evaluation.tapped_bundle import find_taps, tap_bundle
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.export.understanding import understand
from moedge.quant.plan import EXACT
from moedge.runtime.kernels.library import find_library
from moedge.runtime.manifest import read_manifest

IDS = np.random.default_rng(0).integers(2, 211, 60)


def stream_layers(source, folder):
    """The model, the exact hidden states after each layer, and the experts that each layer of them chose."""
    model = with_stored_head(source, understand(source, ExportOptions(EXACT)).model, [])
    hidden, chosen = [], []

    def note(_, taps):
        if taps.routed is not None:
            chosen.append(taps.routed.chosen)

    with StreamedModel(source, model, IDS[None], folder) as stream:
        for _ in range(model.num_hidden_layers):
            stream.run_layer(note)
            hidden.append(stream.hidden[0].copy())
    return model, np.array(hidden), np.array(chosen)


@pytest.mark.parametrize("family", tiny_families.MAKERS)
def test_the_layers_of_a_bundle_are_those_of_the_model(family, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    with Checkpoint(tmp_path / "checkpoint") as source:
        model, exact, experts = stream_layers(source, tmp_path)
    profile = replace(load_profile("auto"), prefill_chunk=23)
    # with 8 bits few routers decide otherwise, and a layer's error is small beside what layers differ by
    plans = [("fp32", "if", 1e-5, 1), ("int8", "fused", 0.2, 0.9), ("int8", "if", 0.2, 0.9)]
    plans = [plan for plan in plans if plan[1] != "fused" or family not in tiny_hybrids.WITHOUT_FUSED]
    for scheme, plan, off, same in [*plans, *([("int8", "native", 0.2, 0.9)] if find_library() else [])]:
        bundle = tmp_path / f"{scheme}-{plan}"
        export_bundle(tmp_path / "checkpoint", bundle, ExportOptions(parse_plan(scheme), plan))
        tapped = tap_bundle(bundle, read_manifest(bundle), profile, model)
        hidden, chosen = tapped.run(IDS)
        assert hidden.shape == exact.shape
        error = np.linalg.norm(hidden - exact, axis=-1) / np.linalg.norm(exact, axis=-1)  # [layers, tokens]
        assert np.median(error, axis=-1).max() < off
        for layer in range(1, len(exact)):
            between = np.linalg.norm(exact[layer] - exact[layer - 1], axis=-1) / np.linalg.norm(exact[layer], axis=-1)
            assert np.median(between) > 2 * np.median(error[layer])
        assert chosen.shape == experts.shape
        pairs = zip(*(each.reshape(-1, each.shape[-1]) for each in (chosen, experts)), strict=True)
        shares = [len({*a} & {*b}) / len(a) for a, b in pairs]
        assert np.mean(shares) >= same


def test_a_graph_without_the_names_has_no_taps(tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable("mixtral"), tmp_path / "checkpoint", 0)
    with Checkpoint(tmp_path / "checkpoint") as source:
        model = understand(source, ExportOptions(EXACT)).model
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
    graph = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    hidden, scores = find_taps(graph, model)
    assert (len(hidden), len(scores)) == (3, 3)
    for lost in ("model.layers.2.input_layernorm.weight", "model.norm.weight", scores[0]):
        other = onnx.GraphProto()
        other.CopyFrom(graph)
        for node in other.node:
            node.input[:] = [name.replace(lost, "x") for name in node.input]
            node.output[:] = [name.replace(lost, "x") for name in node.output]
        assert find_taps(other, model) is None
