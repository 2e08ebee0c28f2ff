"""Schemes and packing: hand-computed bytes, round trips, error bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moedge.quant.blocks import dequantize, interleave_rows, pack, quantize, unpack
from moedge.quant.formats.compressed_tensors import grid_from_packed
from moedge.quant.scheme import SCHEME_NAMES, parse_scheme, scheme_of

QUANTIZED = [name for name in SCHEME_NAMES if name != "fp32"]


def test_low_nibble_comes_first():
    assert pack(np.array([[1, 2, 15, 0]], np.uint8), 4).tolist() == [[0x21, 0x0F]]


@pytest.mark.parametrize("bits", [4, 8])
@given(data=st.data())
def test_unpack_undoes_pack(bits, data):
    codes = data.draw(arrays(np.uint8, (3, 8), elements=st.integers(0, 2**bits - 1)))
    assert np.array_equal(unpack(pack(codes, bits), bits), codes)


def test_symmetric_int4_by_hand():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :4] = [8.0, -7.0, 1.2, -1.6]
    matrix = quantize(weight, parse_scheme("int4-block32"))
    # the largest value, 8, falls on code 0 (= -8): the scale is -1
    assert matrix.scales.tolist() == [[-1.0]]
    assert unpack(matrix.codes, 4)[0, :5].tolist() == [0, 15, 7, 10, 8]
    assert dequantize(matrix)[0, :5].tolist() == [8.0, -7.0, 1.0, -2.0, 0.0]


def test_symmetric_int8_by_hand():
    weight = np.zeros((1, 64), np.float32)
    weight[0, :4] = [127.0, -126.0, 1.4, -1.6]
    matrix = quantize(weight, parse_scheme("int8"))
    # the largest value, 127, falls on code 1 (= -127): the scale is -1, and that of a block of zeros any but 0
    assert matrix.scales.tolist() == [[-1.0, 1.0]]
    assert matrix.codes[0, :5].tolist() == [1, 254, 127, 130, 128]
    assert matrix.codes[0, 32:].tolist() == [128] * 32
    assert dequantize(matrix)[0, :5].tolist() == [127.0, -126.0, 1.0, -2.0, 0.0]


def test_zero_point_int4_by_hand():
    weight = np.linspace(-1, 2, 32, dtype=np.float32)[None]
    matrix = quantize(weight, parse_scheme("int4-block32-zp").fit(32))
    # blocks of 16: the second lies wholly above zero, and its range is widened to hold zero
    assert matrix.scales[0, 1] == pytest.approx(2 / 15)
    assert unpack(matrix.zero_points, 4)[0, 1] == 0


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_rounding_error_is_at_most_a_step(name, scale):
    scheme = parse_scheme(name)
    weight = (np.random.default_rng(0).standard_normal((7, 256)) * scale).astype(np.float32)
    matrix = quantize(weight, scheme)
    step = np.repeat(np.abs(matrix.scales), scheme.block, axis=1)
    # half a step, but a whole one where the symmetric grid lacks its positive end or a zero point is rounded
    assert (np.abs(dequantize(matrix) - weight) <= step * 1.001).all()
    assert np.mean(np.abs(dequantize(matrix) - weight) <= step * 0.501) > 0.9


@pytest.mark.parametrize("name", QUANTIZED)
def test_zeros_and_constants_come_back(name):
    scheme = parse_scheme(name)
    weight = np.stack([np.zeros(256), np.full(256, 3.0), np.full(256, -3.0)]).astype(np.float32)
    assert np.allclose(dequantize(quantize(weight, scheme)), weight, atol=1e-6)


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_code(name, value):
    weight = np.ones((2, 256), np.float32)
    weight[1, 77] = value
    with pytest.raises(ValueError, match="no code"):
        quantize(weight, parse_scheme(name))


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_largest_weights_of_bf16_come_back(name):
    weight = np.full((1, 256), 3e38, np.float32)
    weight[0, ::2] = -3e38
    assert np.abs(dequantize(quantize(weight, parse_scheme(name))) / weight - 1).max() < 0.15


def test_finer_schemes_are_more_faithful():
    weight = np.random.default_rng(1).standard_normal((32, 512)).astype(np.float32)

    def error(name):
        return float(np.square(dequantize(quantize(weight, parse_scheme(name))) - weight).mean())

    assert error("int8") < error("int4-block32") < error("int4-block64") < error("int4-block128")
    assert error("int4-block32-zp") < error("int4-block32")


def test_fitted_takes_the_next_smaller_block():
    scheme = parse_scheme("int4-block128")
    assert scheme.fit(256).block == 128
    assert scheme.fit(256, 96).block == 32
    assert scheme.fit(2880).block == 64
    assert parse_scheme("int4-block128-zp").fit(2880).block == 32  # 45 blocks of 64 are odd
    with pytest.raises(ValueError, match="20"):
        scheme.fit(20)


def test_every_name_is_of_one_scheme():
    assert len(SCHEME_NAMES) == 13
    assert {parse_scheme(name).name for name in SCHEME_NAMES if "block" in name} == {
        f"int4-block{block}{zero}" for block in (16, 32, 64, 128) for zero in ("", "-zp")
    }


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_packed_codes_are_the_same_and_take_their_bits(bits):
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, 2, 64)).astype(np.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (3, 2, 8 * bits)
    assert np.array_equal(unpack(packed, bits), codes)


def test_codes_of_five_and_six_bits_lie_in_two_parts():
    codes = np.array([0x1F, 0x02, 0x13, 0x04, 5, 6, 7, 0x18], np.uint8)
    assert pack(codes, 5).tolist() == [0x2F, 0x43, 0x65, 0x87, 0b10000101]
    codes = np.array([0x3F, 0x12, 0x23, 0x04], np.uint8)
    assert pack(codes, 6).tolist() == [0x2F, 0x43, 0b00100111]
    with pytest.raises(ValueError, match="4 codes of 5 bits do not fill whole bytes"):
        pack(codes, 5)


def test_unknown_scheme_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean int4-block64"):
        parse_scheme("int4-blok64")


def test_interleaved_rows():
    gate, up = np.array([[1], [3]]), np.array([[2], [4]])
    assert interleave_rows(gate, up)[:, 0].tolist() == [1, 2, 3, 4]


def test_compressed_tensors_bytes_pass_through():
    values = np.array([-8, -7, -1, 0, 1, 2, 6, 7])
    word = int.from_bytes(bytes([0x10, 0x87, 0xA9, 0xFE]), "little")
    packed = np.array([[word, word]], np.uint32).view(np.int32)
    grid = grid_from_packed(packed, np.array([[0.5]], np.float32), None, 4)
    assert grid.at(scheme_of(4, 16)).codes[0, :4].tolist() == [0x10, 0x87, 0xA9, 0xFE]
    assert grid.dequantize()[0].tolist() == [*(values * 0.5), *(values * 0.5)]
    with pytest.raises(ValueError, match="not 3 groups"):
        grid_from_packed(packed, np.full((1, 3), 0.5, np.float32), None, 4)
