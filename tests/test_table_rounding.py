"""An embedding is rounded by what reads it first: a router's products keep nearer to exact ones."""

import numpy as np
import pytest
import tiny_models as tiny
from safetensors.numpy import load_file

from moedge.export.bundle import export_bundle
from moedge.export.calibration.calibrated import Calibrated
from moedge.export.calibration.statistics import READERS, TableInputs
from moedge.export.calibration.texts import CalibrationText
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.blocks import dequantize
from moedge.quant.search import SEARCHED

WORDS = CalibrationText("words", tuple(f"passage {i}: {'abcdefgh'[i % 8] * (i % 23)} {i * 7919}" for i in range(300)))
NAME = "model.embed_tokens"


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def checkpoint(request, tmp_path):
    config = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=64, tie_word_embeddings=request.param)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


def round_embedding(checkpoint, bundle, monkeypatch):
    """The table and what its rounding made of it."""
    seen, real = {}, Calibrated.__call__

    def remember(rounding, matrix, weights, scheme):
        seen[matrix] = weights, real(rounding, matrix, weights, scheme), scheme
        return seen[matrix][1]

    with monkeypatch.context() as patch:
        patch.setattr(Calibrated, "__call__", remember)
        plan = parse_plan("fp32", ["embedding=int4-block32"])
        export_bundle(checkpoint, bundle, ExportOptions(plan, calibration=WORDS))
    return seen[NAME]


def test_the_first_router_gets_what_it_would_of_the_exact_table(checkpoint, tmp_path, monkeypatch):
    weights, codes, scheme = round_embedding(checkpoint, tmp_path / "bundle", monkeypatch)
    tensors = load_file(checkpoint / "model.safetensors")
    at = "model.layers.0."
    router = tensors[f"{at}mlp.gate.weight"] * tensors[f"{at}post_attention_layernorm.weight"]
    both = codes, SEARCHED(NAME, weights, scheme)
    by_readers, without = (np.square((dequantize(each) - weights) @ router.T).sum() for each in both)
    assert by_readers < 0.6 * without


def test_readers_have_their_share_beside_the_heads_inputs():
    rng = np.random.default_rng(0)
    states, readers = rng.standard_normal((3, 5, 8), np.float32), 7 * rng.standard_normal((4, 8), np.float32)
    both = TableInputs("table", lambda: states, lambda: readers).sample("table")
    head = TableInputs("table", lambda: states, None).sample("table")
    alone = TableInputs("table", None, lambda: readers).sample("table")
    energies = [np.trace(each.hessian(None) * each.weights.sum()) for each in (both, head, alone)]
    assert energies[0] == pytest.approx((1 + READERS) * energies[1], rel=1e-5)
    direction = both.hessian(None) * both.weights.sum() - head.hessian(None) * head.weights.sum()
    wanted = alone.hessian(None) * alone.weights.sum()
    assert np.allclose(direction / np.trace(direction), wanted / np.trace(wanted), atol=1e-5)
    assert TableInputs("table", None, lambda: readers).sample("another") is None
