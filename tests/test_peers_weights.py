"""Every engine of the benchmark gets the same weights: moedge by a checkpoint, llama.cpp by a GGUF, torch directly."""

import ctypes

import numpy as np
import pytest
import torch
from peers.checkpoint import write_checkpoint
from peers.gguf_names import ARCHITECTURES, fact
from peers.shapes import SHAPES
from peers.torch_model import refer, torch_model
from peers.weights import Weight, numbers, weights
from tiny_peers import tiny_shape

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine

IDS = np.random.default_rng(0).integers(2, 300, 60)


@pytest.fixture(scope="module", params=SHAPES)
def exact(request):
    """A tiny shape, and what transformers says in fp32."""
    shape = tiny_shape(request.param)
    return shape, refer(torch_model(shape), shape, IDS)


def test_the_checkpoint_is_the_same_model_to_moedge(exact, tmp_path):
    shape, reference = exact
    write_checkpoint(tmp_path / "checkpoint", shape)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32"), "if"))
    said = Engine.load(tmp_path / "bundle").score(IDS.tolist())
    assert np.abs(said - reference.logits).max() < 1e-3 * np.abs(reference.logits).max()


def test_the_gguf_is_the_same_model_to_llama_cpp(exact, tmp_path):
    """What is left is its cache's fp16, and rotary frequencies that it rounds for gpt-oss alone."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is only where `make bench` was")
    from peers.gguf_file import write_gguf

    shape, reference = exact
    write_gguf(tmp_path / "exact.gguf", shape, exact=True)
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    model = llama_cpp.Llama(str(tmp_path / "exact.gguf"), n_ctx=64, n_batch=64, logits_all=True, verbose=False)
    model.eval(IDS.tolist())
    said = np.array(model.scores[: len(IDS)])
    model.close()
    away = np.abs(said - reference.logits).max() / np.abs(reference.logits).max()
    assert away < (5e-3 if shape.name == "gpt-oss" else 1e-3)


def test_the_reference_computes_in_fp32_and_tells_how_experts_are_chosen(exact):
    shape, reference = exact
    module = torch_model(shape).float()
    with torch.no_grad():
        said = module(torch.from_numpy(IDS)[None]).logits[0].numpy()
    assert np.abs(said - reference.logits).max() < 1e-4 * np.abs(said).max()
    assert 0 < reference.repeated < 1
    assert len(reference.repeated_by_layer) in (shape.layers, shape.layers - 1, shape.layers - 2)
    assert 3 / 8 < reference.used <= 1


def test_numbers_depend_on_the_name_and_the_seed_alone():
    weight = Weight("a", (3, 1000), 0.5)
    one = numbers(weight).astype(np.float32)
    assert np.array_equal(one, numbers(weight).astype(np.float32))
    assert not np.array_equal(one, numbers(Weight("b", (3, 1000), 0.5)).astype(np.float32))
    assert not np.array_equal(one, numbers(weight, seed=1).astype(np.float32))
    assert abs(one.mean()) < 0.05
    assert 0.45 < one.std() < 0.55
    assert (numbers(Weight("norm", (7,), 0.0)).astype(np.float32) == 1).all()


@pytest.mark.parametrize("name", SHAPES)
def test_every_tensor_has_one_place_in_the_table_of_names(name):
    from peers.gguf_file import placed

    shape = SHAPES[name]
    architecture = ARCHITECTURES[shape.config["model_type"]]
    names = [place for weight in weights(shape) for place, _ in placed(architecture, weight)]
    assert len(names) == len(set(names))
    with pytest.raises(ValueError, match="has no name in GGUF's"):
        list(placed(architecture, Weight("model.layers.0.other.weight", (1,), 1.0)))


def test_facts_are_keys_sums_values_and_texts():
    config = {"a": 2, "b": 3, "inner": {"c": 5}}
    assert [fact(config, said) for said in ("a", "a+b", "inner.c", "=yarn", 7)] == [2, 5, 5, "yarn", 7]
