"""The benchmark of fidelity makes the mixtures that it says: the dense model, or routed experts of unequal load."""

import numpy as np
import pytest
from fidelity.checkpoint import write_checkpoint
from fidelity.clustering import balanced_clusters
from fidelity.forward import feed_forward, hidden_states, logits_of, route
from fidelity.mixture import split_evenly
from fidelity.model import load_model, save_model
from fidelity.moments import second_moments
from fidelity.routing import split_routed
from fidelity_models import SHAPE, dense_model, token_windows
from random_checkpoint import byte_tokenizer
from tokenizers import Tokenizer

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine


def test_a_mixture_of_all_experts_is_the_dense_model():
    dense, ids = dense_model(), token_windows()
    mixture = split_evenly(dense, 6)
    assert mixture.layer(1, "ffn_down_exps").shape == (6, SHAPE.hidden, 32)
    assert np.abs(hidden_states(dense, ids) - hidden_states(mixture, ids)).max() < 1e-5


def test_experts_of_unequal_size_are_refused():
    with pytest.raises(ValueError, match="192 neurons do not make 5 experts"):
        split_evenly(dense_model(), 5)


def test_the_best_logits_are_chosen_and_weighed_against_each_other():
    weights = route(np.array([[0.0, 1.0, -1.0, 1.0]], np.float32), 2)
    assert weights.tolist() == [[0, 0.5, 0, 0.5]]
    weights = route(np.log(np.array([[1.0, 6.0, 3.0, 2.0]], np.float32)), 2)
    np.testing.assert_allclose(weights, [[0, 2 / 3, 1 / 3, 0]], rtol=1e-6)


def test_clusters_are_of_one_size_and_hold_what_is_alike():
    rng = np.random.default_rng(0)
    kinds = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    patterns = kinds @ rng.standard_normal((4, 30), dtype=np.float32) * rng.uniform(1, 9, (40, 1)).astype(np.float32)
    clusters = balanced_clusters(patterns + 0.01 * rng.standard_normal((40, 30), dtype=np.float32), 4, rng)
    assert sorted(np.concatenate(clusters).tolist()) == list(range(40))
    assert [len(cluster) for cluster in clusters] == [10] * 4
    assert sorted([*{int(i) % 4 for i in cluster}] for cluster in clusters) == [[0], [1], [2], [3]]


def test_clusters_are_of_one_size_where_nothing_is_alike():
    rng = np.random.default_rng(1)
    clusters = balanced_clusters(rng.standard_normal((60, 8), dtype=np.float32), 5, rng)
    assert sorted(np.concatenate(clusters).tolist()) == list(range(60))
    assert {len(cluster) for cluster in clusters} == {12}


def test_a_routed_mixture_stays_near_its_source_and_loads_its_experts_unequally():
    dense = dense_model()
    mixture, fits = split_routed(dense, token_windows(40, 40), experts=6, chosen=4)
    assert (mixture.shape.width, mixture.shape.experts, mixture.shape.chosen) == (32, 6, 4)
    assert len(fits) == SHAPE.layers
    for fit in fits:
        assert fit.error < 0.2
        assert 0 < fit.least_load < 4 / 6 < fit.most_load
    h = np.random.default_rng(3).standard_normal((200, SHAPE.hidden)).astype(np.float32)
    wanted, given = (feed_forward(model, 0, h) for model in (dense, mixture))
    assert np.square(given - wanted).sum() < 0.4 * np.square(wanted).sum()


def test_moments_are_of_the_rows_that_an_expert_saw():
    mixture, _ = split_routed(dense_model(), token_windows(20, 40), experts=6, chosen=2)
    seen = {}
    hidden_states(mixture, token_windows(), lambda name, expert, rows: seen.update({(name, expert): rows}))
    moments = second_moments(mixture, token_windows(), batch=3)
    name = "blk.1.ffn_down_exps.weight"
    assert moments[name].shape == (6, 32)
    for expert in range(6):
        rows = seen[name, expert]
        expected = np.square(rows).mean(0) if len(rows) else np.ones(32)
        np.testing.assert_allclose(moments[name][expert], expected, rtol=1e-4)
    assert "token_embd.weight" not in moments
    assert "blk.0.ffn_gate_inp.weight" not in moments


def test_models_survive_the_disk(tmp_path):
    mixture = split_evenly(dense_model(), 6)
    save_model(mixture, tmp_path / "mixture")
    loaded = load_model(tmp_path / "mixture")
    assert loaded.shape == mixture.shape
    assert loaded.tensors.keys() == mixture.tensors.keys()
    assert all(np.array_equal(loaded.tensors[name], tensor) for name, tensor in mixture.tensors.items())


@pytest.mark.parametrize("chosen", [6, 3])
def test_the_checkpoint_is_the_same_function(tmp_path, chosen):
    dense = dense_model()
    model = split_evenly(dense, 6) if chosen == 6 else split_routed(dense, token_windows(20, 40), 6, chosen)[0]
    byte_tokenizer(tmp_path / "tokenizer.json")
    write_checkpoint(model, Tokenizer.from_file(str(tmp_path / "tokenizer.json")), tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    [ids] = token_windows(1)
    [reference] = logits_of(model, ids[None])
    np.testing.assert_allclose(Engine.load(tmp_path / "bundle").score(ids.tolist()), reference, atol=1e-4)


def test_a_dense_model_is_no_checkpoint_of_experts(tmp_path):
    with pytest.raises(ValueError, match="split it first"):
        write_checkpoint(dense_model(), None, tmp_path / "checkpoint")
