"""The benchmark of fidelity measures what it says: weights near their source, KL by hand, intervals that cover."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from fidelity.dither import decode, dither
from fidelity.figures import SKIPPED, compare, figures, ratio
from fidelity.measuring import Measured, read, write
from fidelity.picture import picture
from fidelity.table import ratios, table
from fidelity.texts import shares, windows, words
from random_checkpoint import byte_tokenizer
from tokenizers import Tokenizer


def test_q4_1_blocks_are_read_as_ggml_lays_them_out():
    codes = np.arange(32) % 16
    halves = np.array([0.5, -2], np.float16).view(np.uint8)
    raw = np.concatenate([halves, codes[:16] | codes[16:] << 4]).astype(np.uint8)[None]
    weights, steps = decode(raw, "Q4_1")
    np.testing.assert_array_equal(weights, [0.5 * codes - 2])
    np.testing.assert_array_equal(steps, np.full((1, 32), 0.5))


def test_q8_0_blocks_are_read_as_ggml_lays_them_out():
    codes = np.arange(-64, 64, 2).astype(np.int8).reshape(2, 32)
    scales = np.array([[0.25], [-3]], np.float16).view(np.uint8)
    weights, steps = decode(np.concatenate([scales, codes.view(np.uint8)], 1).reshape(1, -1), "Q8_0")
    np.testing.assert_array_equal(weights, (codes * np.array([[0.25], [-3]])).reshape(1, -1))
    np.testing.assert_array_equal(steps, np.repeat([[0.25, 3]], 32, 1))


def test_other_blocks_are_refused():
    with pytest.raises(ValueError, match="Q2_K blocks are not read here"):
        decode(np.zeros((1, 84), np.uint8), "Q2_K")


def test_dithering_stays_within_the_cell_and_fills_it():
    weights, steps = np.zeros((200, 64), np.float32), np.full((200, 64), 0.5, np.float32)
    steps[:100] = 2
    moved = dither(weights, steps, np.random.default_rng(0)) / steps
    assert np.abs(moved).max() <= 0.5
    assert np.histogram(moved, 10, (-0.5, 0.5))[0].min() > 0.09 * moved.size
    again = dither(weights, steps, np.random.default_rng(0)) / steps
    np.testing.assert_array_equal(moved, again)


def test_distance_by_hand():
    tokens = SKIPPED + 3
    p, q = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])
    ids = np.full(tokens, 1)
    rows = compare(np.tile(p, (tokens, 1)) + 7, np.tile(q, (tokens, 1)) - 3, ids)
    kl = 0.5 * np.log(2) - 0.25 * np.log(2)
    np.testing.assert_allclose(rows, np.tile([[kl], [0], [np.log(4)], [np.log(2)]], 2), rtol=1e-6)
    found = figures([rows, compare(np.tile(p, (tokens, 1)), np.tile(p, (tokens, 1)), ids)])
    assert found.positions == 4
    assert found.kl_mean == pytest.approx(kl / 2)
    assert found.kl_error == pytest.approx(kl / 2)
    assert found.top1 == 0.5
    assert found.reference_perplexity == pytest.approx(4)
    assert found.perplexity == pytest.approx(8**0.5)


def kl_rows(means, positions=50, seed=0):
    noise = np.random.default_rng(seed).gamma(4, 0.25, (len(means), positions))
    return [np.stack([mean * row, row, row, row]).astype(np.float32) for mean, row in zip(means, noise, strict=True)]


def test_a_paired_interval_is_narrow_where_windows_differ_alike():
    means = np.linspace(0.1, 1, 16)
    half = ratio(kl_rows(0.5 * means), kl_rows(means))
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5), rel=1e-5)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for seed in range(100):
        means = rng.gamma(9, 1 / 9, (2, 24))
        found = ratio(kl_rows(0.8 * means[0], seed=seed), kl_rows(means[1], seed=seed + 1000))
        covered += found.low < 0.8 < found.high
    assert 88 <= covered <= 99


def test_only_the_same_windows_are_compared():
    with pytest.raises(ValueError, match="3 windows cannot be compared with 2"):
        ratio(kl_rows(np.ones(3)), kl_rows(np.ones(2)))


def measured(method, mean, bits):
    rows = kl_rows(np.full(4, mean))
    return Measured("even", method, bits, 10**8, 1.5, "own kernels", figures(rows), rows)


def test_what_was_measured_survives_the_disk(tmp_path):
    one = measured("moedge:int4", 0.4, 4.5)
    write(one, tmp_path / "results" / "one.npz")
    again = read(tmp_path / "results" / "one.npz")
    np.testing.assert_array_equal(again.rows, one.rows)
    assert dataclasses.replace(again, rows=[]) == dataclasses.replace(one, rows=[])
    assert one.summary()["kl_mean"] == one.figures.kl_mean


def test_the_table_has_the_best_first_and_ratios_to_the_peer():
    methods = [measured("moedge:int4", 0.4, 4.5), measured("ggml:Q4_K_M+", 0.1, 5.1)]
    lines = [line for line in table(methods, "ggml:Q4_K_M+").splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == ["| method", "| ggml:Q4_K_M+", "| moedge:int4"]
    assert "| 4.50 | 100.0 MB |" in lines[2]
    assert "4.000 (4.000 – 4.000)" in lines[2]
    assert ratios(methods, "another") == {}


def test_the_picture_has_a_point_a_method_lower_where_kl_is_less():
    methods = [measured("moedge:int4", 0.4, 4.5), measured("ggml:Q4_K_M+", 0.1, 5.1)]
    root = ElementTree.fromstring(picture(methods, "a & b"))
    worse, better = root.findall("{*}circle")
    assert float(worse.get("cx")) < float(better.get("cx"))
    assert float(worse.get("cy")) < float(better.get("cy"))
    assert {"a & b", "int4", "Q4_K_M+"} <= {each.text for each in root.findall("{*}text")}


def test_windows_are_shared_out_and_spread(tmp_path):
    assert (shares(12), shares(10)) == ((6, 3, 3), (5, 2, 3))
    byte_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    found = windows(tokenizer, ["a" * 99 + "A", "b" * 100, "c" * 100], 8, 20)
    assert tokenizer.decode_batch(found.tolist()) == [*["a" * 20] * 3, "a" * 19 + "A", *["b" * 20] * 2, *["c" * 20] * 2]
    with pytest.raises(ValueError, match="a text of 10 tokens holds no window of 20"):
        windows(tokenizer, ["a" * 100, "b" * 10, "c" * 100], 8, 20)


def test_words_of_a_page():
    assert words("<style>x</style><h1>Title</h1><p>One &amp; <b>two</b>.<!-- no --></p>") == "Title\n\nOne & two."
