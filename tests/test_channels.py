"""Factors of channels change nothing in exact arithmetic: a writer is divided by what its readers multiply by."""

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from segments import Segments

from moedge.export.checkpoint.matrix import Rounded
from moedge.export.checkpoint.views import Interleaved, Reordered, Scaled, Stacked, scale_matrix
from moedge.export.graph.channels import Channels, Reader
from moedge.quant.rounding import NEAREST
from moedge.quant.scheme import parse_scheme

IDS = np.random.default_rng(0).integers(2, 211, 40)
MAKERS = {**tiny_families.MAKERS, "deepseek_v3": tiny.deepseek_v3, "qwen3_moe": tiny.qwen3_moe}


def factors_of(readers):
    """For every writer, factors from 1/4 to 4."""
    rng = np.random.default_rng(1)
    widths = {writer: found[0].gather(np.ones(found[0].matrix.shape[1], np.float32)).size for writer, found in readers}
    return {writer: np.exp2(rng.uniform(-2, 2, width)).astype(np.float32) for writer, width in widths.items()}


@pytest.mark.parametrize("family", sorted(MAKERS))
def test_a_model_is_the_same_with_any_factors(family, tmp_path):
    tiny.save_checkpoint(MAKERS[family](), tmp_path / "checkpoint", 0)
    plain = Segments(tmp_path / "checkpoint", tmp_path / "plain", channels=Channels())
    logits = plain.run(0, None, IDS)
    factors = factors_of(plain.channels.readers.items())
    model = plain.model
    inside = model.experts.num_experts * len(model.moe_layers) if model.experts.gate.scales_up else 0
    halves = 2 * model.num_hidden_layers - len(model.bare_layers) - model.mixers.count(None)
    assert len(factors) >= halves + inside
    scaled = Segments(tmp_path / "checkpoint", tmp_path / "scaled", channels=Channels(factors))
    rounding = 5e-5 if model.has_state else 2e-5
    assert np.abs(scaled.run(0, None, IDS) - logits).max() < rounding * np.abs(logits).max()


def test_every_writer_has_its_readers(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    found = Segments(tmp_path / "checkpoint", tmp_path / "one", channels=Channels())
    found.build(0, 1)
    readers = {writer: [r.matrix.name for r in some] for writer, some in found.channels.readers.items()}
    layer = "model.layers.0"
    assert readers[f"{layer}.input_layernorm"] == [f"{layer}.self_attn.{part}_proj" for part in "qkv"]
    assert readers[f"{layer}.self_attn.v_proj"] == [f"{layer}.self_attn.o_proj"]
    [gate, first, *_] = readers[f"{layer}.post_attention_layernorm"]
    assert gate == f"{layer}.mlp.gate"
    assert first == f"{layer}.mlp.experts.0.gate_proj, {layer}.mlp.experts.0.up_proj"
    assert readers[f"{layer}.mlp.experts.0.down_proj"] == [f"{layer}.mlp.experts.0.down_proj"]


def test_heads_that_share_a_key_share_its_channels():
    reader = Reader(matrix_of(np.zeros((1, 8), np.float32)), copies=2, width=2)
    assert reader.spread(np.array([1, 2, 3, 4], np.float32)).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    assert reader.gather(np.array([1, 2, 3, 4, 5, 6, 7, 8], np.float32)).tolist() == [2, 3, 6, 7]


def matrix_of(weights, name="m"):
    return Rounded(name, weights.shape, "f32", False, (), lambda start, stop: weights[start:stop])


def test_parts_stay_matrices_of_their_own():
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((4, 64)).astype(np.float32) for _ in range(2))
    rows, columns = (np.exp2(rng.integers(-2, 3, n)).astype(np.float32) for n in (8, 64))
    a, b = matrix_of(first, "a"), matrix_of(second, "b")
    turned = Reordered(b, np.array([3, 1, 2, 0]))
    for whole in (Stacked((a, turned)), Interleaved(a, turned)):
        scaled = scale_matrix(whole, rows, columns)
        assert isinstance(scaled, type(whole))
        assert np.array_equal(scaled.read(1, 7), (whole.read(0, 8) * rows[:, None] * columns)[1:7])
        names = []

        class Remember:
            name = "remember"

            def __call__(self, matrix, weights, scheme, names=names):
                names.append(matrix)
                return NEAREST(matrix, weights, scheme)

        scaled.codes(parse_scheme("int8"), Remember(), 0, 8)
        assert names == ["a", "b"]


def test_published_codes_are_none_once_scaled():
    scaled = Scaled(matrix_of(np.ones((2, 64), np.float32)), None, np.full(64, 2, np.float32))
    assert [source.native for source in scaled.sources] == [None]
    assert scaled.shape == (2, 64)


def test_rows_that_lie_apart_may_be_one_writer_s():
    """As those of a latent up-projection's values, which stand between its keys' rows."""
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    channels = Channels({"values": np.array([2, 4], np.float32)})
    found = channels.write("values", matrix_of(weights), np.array([1, 3])).read(0, 4)
    assert np.array_equal(found, weights / np.array([[1], [2], [1], [4]], np.float32))
    assert np.array_equal(channels.write("others", matrix_of(weights), np.array([1, 3])).read(0, 4), weights)
