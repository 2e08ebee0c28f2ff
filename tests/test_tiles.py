"""Tile rows against docs/kernels.md's formula, read slowly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moedge.quant.blocks import dequantize, hold_scales, quantize, unpack
from moedge.quant.scheme import MXFP4, NVFP4, scheme_of
from moedge.quant.tiles import ALIGNMENT, E4M3, count_tiles, read_tiles, tile, tile_bytes, tile_pairs

INTEGERS = [
    scheme_of(bits, block, zero_point, scales)
    for bits in (4, 5, 6, 8)
    for block in (16, 32, 64, 128)
    for zero_point in (False, True)
    for scales in ("float32", "float16", "bfloat16", "float8")
]
SCHEMES = [*INTEGERS, MXFP4, replace(NVFP4, factor=0.125)]
SPELT = [f"{scheme.name}-{scheme.scales}" for scheme in SCHEMES]
WIDTHS = {
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "float8": "u1",
    "float8e4m3fn": "u1",
    "float8e8m0": "u1",
}


def random_codes(rows, columns, scheme, seed=0):
    """Of a matrix whose scales differ widely; all codes and zero points of integers occur."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-4, 3, (rows, 1))
    codes = quantize(weight.astype(np.float32), scheme)
    if scheme.numbers == "floats":
        return codes
    zeros = codes.zero_points
    if zeros is not None:
        zeros = rng.integers(0, 256 if scheme.bits in (4, 8) else 1 << scheme.bits, zeros.shape).astype(np.uint8)
    drawn = rng.integers(0, 256, codes.codes.shape).astype(np.uint8)
    signs = np.where(rng.integers(0, 2, codes.scales.shape), 1, -1).astype(np.float32)
    return replace(codes, codes=drawn, scales=hold_scales(codes.scales * signs, scheme.scales), zero_points=zeros)


def read_slowly(record, scheme, row, column, columns):
    """(code, zero point, scale, factor) of a weight, by the formula."""
    subblocks = -(-columns // 32)
    groups, (s, k) = subblocks * 32 // scheme.block, divmod(column, 32)
    at, upper = 0, {5: 64, 6: 128}.get(scheme.bits, 0)
    kind = np.dtype(WIDTHS.get(scheme.scales, "u1"))
    scales = record[at : at + groups * 16 * kind.itemsize].view(kind).reshape(groups, 16)
    raw = scales[column // scheme.block, row]
    at += scales.nbytes
    if scheme.scales == "bfloat16":
        scale = np.array(raw, np.uint32) << 16
        scale = scale.view(np.float32)
    elif scheme.scales in ("float8", "float8e4m3fn"):
        scale = E4M3[raw]
    elif scheme.scales == "float8e8m0":
        scale = np.float32(2.0 ** (int(raw) - 127))
    else:
        scale = np.float32(raw)
    zero = 0 if scheme.numbers == "floats" else {4: 8, 5: 16, 6: 32, 8: 128}[scheme.bits]
    if scheme.zero_point and scheme.bits == 4:
        zero = int(record[at + column // scheme.block * 8 + row % 8]) >> (4 * (row // 8)) & 15
        at += groups * 8
    elif scheme.zero_point:
        zero = int(record[at + column // scheme.block * 16 + row])
        at += groups * 16
    factor = np.float32(1)
    if scheme.scales in ("float8", "float8e4m3fn"):
        factor = record[at : at + 64].view("<f4")[row]
        at += 64
    at = -(-at // 64) * 64
    if scheme.bits == 8:
        return int(record[at + 512 * s + (k // 4 * 16 + row) * 4 + k % 4]), zero, scale, factor
    at += (256 + upper) * s
    (c, rest), (g, j) = divmod(k, 8), divmod(k, 4)
    code = int(record[at + (c * 16 + row) * 4 + rest % 4]) >> (4 * (rest // 4)) & 15
    if scheme.bits == 5:
        code |= (int(record[at + 256 + row * 4 + j]) >> g & 1) << 4
    if scheme.bits == 6:
        h, i = divmod(g, 4)
        code |= (int(record[at + 256 + (h * 16 + row) * 4 + j]) >> (2 * i) & 3) << 4
    return code, zero, scale, factor


@pytest.mark.parametrize("scheme", SCHEMES, ids=SPELT)
def test_tile_rows_are_the_formula(scheme):
    rows, columns = 5, {16: 48 if scheme.numbers == "integers" else 96}.get(scheme.block, 2 * scheme.block)
    if scheme.zero_point and scheme.bits == 4 and columns // scheme.block % 2:
        columns += 16
    codes = random_codes(rows, columns, scheme)
    [record] = tile(codes, scheme)
    assert len(record) == tile_bytes(scheme, columns)
    assert len(record) % ALIGNMENT == 0
    weight, given_codes = dequantize(codes), unpack(codes.codes, scheme.bits)
    for row in range(16):
        for column in range(-(-columns // 32) * 32):
            code, zero, scale, factor = read_slowly(record, scheme, row, column, columns)
            if row >= rows or column >= columns:
                assert code == 0
                assert scale * factor * (code - zero) == 0 or scheme.numbers == "floats"
                assert zero == 0 or not scheme.zero_point
                continue
            assert code == given_codes[row, column]
            if scheme.numbers == "integers":
                assert (np.float32(code) - np.float32(zero)) * (scale * factor) == weight[row, column]


@given(
    rows=st.integers(1, 50),
    blocks=st.integers(1, 7),
    scheme=st.sampled_from(SCHEMES),
    seed=st.integers(0, 9),
)
def test_tile_rows_give_the_codes_back(rows, blocks, scheme, seed):
    """Of any size; a whole matrix is its chunks of 16 rows, one after the other."""
    even = 2 if (scheme.zero_point and scheme.bits == 4) or (scheme.numbers == "floats" and scheme.block == 16) else 1
    columns = scheme.block * blocks * even
    codes = random_codes(rows, columns, scheme, seed)
    tiles = tile(codes, scheme)
    assert tiles.shape == (count_tiles(rows), tile_bytes(scheme, columns))
    back = read_tiles(tiles, scheme, rows, columns)
    for mine, theirs in zip(codes.arrays, back.arrays, strict=True):
        assert np.array_equal(mine, theirs)
    assert (back.bits, back.block, back.numbers, back.factor) == (
        codes.bits, codes.block, codes.numbers, codes.factor,
    )  # fmt: skip
    parts = [tile(codes.rows(slice(start, start + 16)), scheme) for start in range(0, rows, 16)]
    assert np.array_equal(np.concatenate(parts), tiles)


@pytest.mark.parametrize("scheme", [scheme_of(5, 32, True, "float8"), MXFP4], ids=["int5", "mxfp4"])
@pytest.mark.parametrize("width", [16, 21])
def test_pairs_part_the_gate_from_up(scheme, width):
    codes = random_codes(2 * width, 64, scheme)
    tiles = tile_pairs(codes, scheme)
    assert len(tiles) == 2 * count_tiles(width)
    for place in range(2):
        assert np.array_equal(tiles[place::2], tile(codes.rows(slice(place, None, 2)), scheme))


def test_a_scale_that_the_type_does_not_hold_is_no_scale():
    codes = random_codes(3, 64, scheme_of(4, 32))
    for kept in ("float16", "bfloat16", "float8e4m3fn", "float8e8m0"):
        with pytest.raises(AssertionError, match="scales that are not"):
            tile(codes, scheme_of(4, 32, scales=kept))
