"""The benchmark of fidelity end to end on a tiny mixture: engines against the reference, kept and read again."""

import numpy as np
import pytest
from fidelity.checkpoint import write_checkpoint
from fidelity.forward import hidden_states
from fidelity.measuring import measure
from fidelity.mixture import split_evenly
from fidelity.model import save_model
from fidelity.workplace import Settings, Workplace, prepare
from fidelity_models import dense_model, token_windows
from random_checkpoint import byte_tokenizer
from tokenizers import Tokenizer

from moedge.runtime.kernels.library import find_library


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workplace with the mixture `even` of random weights, as `prepare` leaves one."""
    folder = tmp_path_factory.mktemp("workplace")
    model, ids = split_evenly(dense_model(), 3), token_windows(4, 48)
    np.save(folder / "evaluation.npy", ids)
    save_model(model, folder / "even")
    np.save(folder / "even" / "reference.npy", hidden_states(model, ids))
    byte_tokenizer(folder / "tokenizer.json")
    write_checkpoint(model, Tokenizer.from_file(str(folder / "tokenizer.json")), folder / "even" / "checkpoint")
    return Workplace(folder, Settings(evaluate=4, tokens=48))


def test_engines_are_measured_against_the_reference(place):
    methods = ("moedge:fp32", "moedge:int4", "onnxruntime:rtn-32")
    same, four, peer = (measure(place, "even", method, fresh=True) for method in methods)
    assert same.figures.kl_mean < 1e-9
    assert same.figures.top1 == 1
    assert 0.5 * peer.figures.kl_mean < four.figures.kl_mean < 5 * peer.figures.kl_mean
    assert peer.figures.kl_mean > 1e-4
    stored = 5 if find_library() is None else 6  # tile rows have 16 rows, which so small matrices do not fill
    assert [round(each.bits_per_weight) for each in (same, four, peer)] == [32, stored, 6]
    assert peer.file_bytes is None
    assert four.file_bytes > four.bits_per_weight * place.model("even").parameters() / 8
    assert four.figures.positions == 4 * (48 - 16 - 1)


def test_what_was_measured_is_not_measured_again(place):
    first = measure(place, "even", "onnxruntime:k_quant-32", fresh=True)
    assert measure(place, "even", "onnxruntime:k_quant-32", fresh=False).seconds == first.seconds
    assert measure(place, "even", "onnxruntime:k_quant-32", fresh=True).seconds != first.seconds


def test_a_folder_holds_one_comparison(tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "SmolLM2-135M-Instruct.Q4_1.gguf").touch()
    prepare(tmp_path / "one", Settings(evaluate=4), ())
    prepare(tmp_path / "one", Settings(evaluate=4), ())
    with pytest.raises(ValueError, match=r'"evaluate": 4.*choose another --folder'):
        prepare(tmp_path / "one", Settings(evaluate=5), ())
