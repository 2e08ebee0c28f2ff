"""Layouts of published formats: against the formats' own packages, and by hand where there is none that installs."""

from dataclasses import replace

import numpy as np
import pytest
import quantized_checkpoints as quantized
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from moedge.quant.blocks import dequantize, unpack
from moedge.quant.formats.awq import grid_from_awq
from moedge.quant.formats.compressed_tensors import grid_from_int8, grid_from_packed, zeros_from_packed
from moedge.quant.formats.fp8 import dequantize_fp8, e8m0
from moedge.quant.formats.gptq import grid_from_gptq, zeros_from_gptq
from moedge.quant.formats.mxfp4 import grid_from_mxfp4
from moedge.quant.grids import Grid, find_group, holds, joint_scheme, native_scheme
from moedge.quant.scheme import FP32, MXFP4, NVFP4, scheme_of


def random_weight(rows=24, columns=256, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 0.1)


def words(*values):
    """32-bit words as int32."""
    return np.array(values, np.uint32).view(np.int32)


@pytest.mark.parametrize("group", [32, 64, 128, None])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_pack_quantized_is_what_the_package_decompresses(bits, symmetric, group):
    encode, _ = quantized.packed(bits, group, symmetric)
    stored, dense = encode(random_weight())
    zeros = None
    if not symmetric:
        zeros = zeros_from_packed(stored["weight_zero_point"].numpy(), bits)
    grid = grid_from_packed(stored["weight_packed"].numpy(), stored["weight_scale"].numpy(), zeros, bits)
    assert np.array_equal(grid.dequantize(), dense.numpy())
    assert np.array_equal(grid.codes, stored["weight_packed"].numpy().view(np.uint8))
    scheme = native_scheme(bits, 256, 256 // (group or 256), not symmetric)
    assert scheme == scheme_of(bits, group or 128, not symmetric)
    codes = grid.at(scheme)
    assert np.array_equal(codes.codes, grid.codes)
    assert np.array_equal(dequantize(codes), dense.numpy())


def test_zero_points_of_rows_that_do_not_fill_words():
    args = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=32)
    zero = torch.tensor([[-8, 7], [-7, 6], [0, 1], [3, -3], [7, 7], [1, 2], [2, 1], [5, -5], [-1, -8], [4, 0]])
    state = {
        "weight": random_weight(10, 64), "weight_scale": torch.full((10, 2), 0.1),
        "weight_zero_point": zero.to(torch.int8),
    }  # fmt: skip
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    stored = PackedQuantizationCompressor.compress(state, scheme)
    found = zeros_from_packed(stored["weight_zero_point"].numpy(), 4)[:10]
    assert np.array_equal(found.astype(int) - 8, zero.numpy())


@pytest.mark.parametrize("symmetric", [True, False])
def test_int_quantized_is_what_the_package_decompresses(symmetric):
    stored, dense = quantized.int8(symmetric)[0](random_weight())
    zeros = None if symmetric else stored["weight_zero_point"].numpy()
    grid = grid_from_int8(stored["weight"].numpy(), stored["weight_scale"].numpy(), zeros)
    assert np.array_equal(grid.dequantize(), dense.numpy())
    assert np.array_equal(dequantize(grid.at(scheme_of(8, 128, not symmetric))), dense.numpy())


def test_awq_by_hand():
    # columns 0 … 7 of the word hold 0 … 7: nibble p holds column [0, 2, 4, 6, 1, 3, 5, 7][p]
    qweight = words(0x75316420, 0x86427531).reshape(2, 1)
    grid = grid_from_awq(qweight, np.full((1, 8), 0.5, np.float32), words(0x11111110).reshape(1, 1))
    assert unpack(grid.codes, 4).tolist() == [[n, n + 1] for n in range(8)]
    assert grid.zeros[:, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    assert grid.dequantize()[3].tolist() == [1.0, 1.5]


@pytest.mark.parametrize("group", [32, 128])
def test_awq_is_what_the_package_converts(group):
    """AutoAWQ's own package needs a GPU's kernels; compressed-tensors has a converter of its checkpoints."""
    stored, dense = quantized.awq(group)[0](random_weight())
    other = AutoAWQConverter(group_size=group).process({f"m.{part}": tensor for part, tensor in stored.items()})
    args = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=group)
    other = PackedQuantizationCompressor.decompress(
        {part.removeprefix("m."): tensor for part, tensor in other.items()},
        QuantizationScheme(targets=["Linear"], weights=args),
    )
    assert np.allclose(other["weight"].float().numpy(), dense.numpy(), atol=1e-3)  # it computes in fp16
    grid = grid_from_awq(stored["qweight"].numpy(), stored["scales"].float().numpy(), stored["qzeros"].numpy())
    assert np.array_equal(grid.dequantize(), dense.numpy())


def test_gptq_by_hand():
    # two columns of the output; eight codes of K in each word, the first in the lowest nibble
    qweight = words(0x76543210, 0xFEDCBA98).reshape(1, 2)
    scales = np.array([[0.5, 2.0]], np.float32)
    grid = grid_from_gptq(qweight, scales, np.array([[8], [1]], np.uint8), 4)
    assert grid.dequantize().tolist() == [[(k - 8) * 0.5 for k in range(8)], [(k + 8 - 1) * 2.0 for k in range(8)]]


def test_gptq_zero_points_by_hand():
    # version 1 stores one less: 7 stands for 8, and the word as a whole borrows for a zero point of 0
    assert zeros_from_gptq(words(0x77777777).reshape(1, 1), 4, True)[:, 0].tolist() == [8] * 8
    assert zeros_from_gptq(words(0x88888888).reshape(1, 1), 4, False)[:, 0].tolist() == [8] * 8
    zeros = [0, 3, 15, 8, 0, 0, 1, 7]
    whole = sum(z << (4 * i) for i, z in enumerate(zeros))
    assert zeros_from_gptq(words((whole - 0x11111111) % 2**32).reshape(1, 1), 4, True)[:, 0].tolist() == zeros
    assert zeros_from_gptq(words(0x7F7F7F7F).reshape(1, 1), 8, True)[:, 0].tolist() == [128] * 4


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 128), (8, 64), (4, -1)])
def test_gptq_of_any_kind(bits, group, version, ordered):
    for symmetric in (True, False):
        stored, dense = quantized.gptq(bits, group, symmetric, version, ordered)[0](random_weight())
        zeros = zeros_from_gptq(stored["qzeros"].numpy(), bits, version == 1)
        assert (zeros == 2 ** (bits - 1)).all() == symmetric
        g_idx = stored["g_idx"].numpy().astype(np.int64)
        trivial = find_group(g_idx) == (256 if group == -1 else group)
        assert trivial == (not ordered or group == -1)
        scales = stored["scales"].float().numpy()
        grid = grid_from_gptq(stored["qweight"].numpy(), scales, zeros, bits, None if trivial else g_idx)
        assert np.array_equal(grid.dequantize(), dense.numpy())


def test_mxfp4_by_hand():
    packed = np.array([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, *[0] * 8]], np.uint8)
    values = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    for exponent in (0, 1, 127, 130, 252):
        grid = grid_from_mxfp4(packed, np.array([[exponent]], np.uint8))
        expected = np.array([*values, *(-v for v in values), *[0] * 16]) * 2.0 ** (exponent - 127)
        assert np.array_equal(grid.dequantize()[0], expected.astype(np.float32))
    with pytest.raises(ValueError, match="NaN"):
        grid_from_mxfp4(packed, np.array([[255]], np.uint8))


def test_mxfp4_is_what_transformers_reads():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (2, 12, 3, 16), dtype=np.uint8)
    scales = rng.integers(100, 140, (2, 12, 3), dtype=np.uint8)
    theirs = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32)
    for e in range(2):
        grid = grid_from_mxfp4(blocks[e].reshape(12, -1), scales[e])
        assert np.array_equal(grid.dequantize(), theirs[e].T.numpy())
        assert np.array_equal(dequantize(grid.at(scheme_of(8, 32))), theirs[e].T.numpy())
        assert grid.at(scheme_of(8, 32)).codes.min() >= 116  # twice a value lies within ± 12
        assert np.array_equal(grid.at(MXFP4).codes, blocks[e].reshape(12, -1))
        assert np.array_equal(dequantize(grid.at(MXFP4)), theirs[e].T.numpy())


def test_mxfp4_of_compressed_tensors_is_what_the_package_decompresses():
    stored, dense = quantized.compressed_mxfp4()[0](random_weight())
    grid = grid_from_mxfp4(stored["weight_packed"].numpy(), stored["weight_scale"].numpy())
    assert np.array_equal(grid.dequantize(), dense.numpy())


def test_every_fp8_byte_is_what_torch_reads():
    every = np.arange(256, dtype=np.uint8)
    finite = every[every & 127 != 127]
    theirs = torch.from_numpy(finite).view(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(dequantize_fp8(finite[None], np.ones((1, 1), np.float32), 0, (1, 254))[0], theirs)
    powers = torch.from_numpy(every).view(torch.float8_e8m0fnu).float().numpy()
    assert np.array_equal(e8m0(every), powers, equal_nan=True)
    for byte in (0x7F, 0xFF):
        with pytest.raises(ValueError, match="NaN"):
            dequantize_fp8(np.array([[byte]], np.uint8), np.ones((1, 1), np.float32), 0, (1, 1))


@pytest.mark.parametrize("block", [(128, 128), (16, 48), (7, 5), (1, 300), (64, 1)])
def test_fp8_blocks_with_ragged_ends_from_any_row_on(block):
    stored, dense = quantized.fp8(*block)[0](random_weight(50, 300))
    weight, scales = stored["weight"].view(torch.uint8).numpy(), stored["weight_scale_inv"].numpy()
    for start, stop in ((0, 50), (0, 1), (6, 21), (49, 50), (17, 50)):
        first, last = start // block[0], -(-stop // block[0])
        rows = dequantize_fp8(weight[start:stop], scales[first:last], start, block)
        assert np.array_equal(rows, dense[start:stop].numpy())


def test_which_blocks_hold_a_grid():
    assert native_scheme(4, 2048, 16, False) == scheme_of(4, 128)
    assert native_scheme(4, 4096, 16, False) == scheme_of(4, 128)  # groups of 256
    assert native_scheme(4, 384, 3, False) == scheme_of(4, 128)
    assert native_scheme(4, 384, 3, True) == scheme_of(4, 64, True)  # four-bit zero points come in pairs
    assert native_scheme(8, 384, 3, True) == scheme_of(8, 128, True)
    assert native_scheme(4, 480, 10, True) == scheme_of(4, 16, True)  # groups of 48
    assert native_scheme(4, 48, 1, True) is None  # three blocks of 16
    assert native_scheme(4, 64, 8, False) is None  # groups of 8
    assert native_scheme(4, 100, 3, False) is None


@pytest.mark.parametrize(
    ("scheme", "native", "held"),
    [
        (scheme_of(4, 32), scheme_of(4, 32), True),
        (scheme_of(4, 32), scheme_of(4, 64), True),
        (scheme_of(4, 64), scheme_of(4, 32), False),
        (scheme_of(8, 32), scheme_of(4, 32), True),
        (scheme_of(4, 32), scheme_of(8, 32), False),
        (scheme_of(4, 32, True), scheme_of(4, 32), True),
        (scheme_of(4, 32), scheme_of(4, 32, True), False),
        (FP32, scheme_of(4, 32), False),
        (scheme_of(4, 32), None, False),
        (MXFP4, MXFP4, True),
        (NVFP4, MXFP4, False),
        (MXFP4, scheme_of(4, 32), False),
        (scheme_of(8, 32, False, "bfloat16"), MXFP4, True),
        (scheme_of(8, 16, True), MXFP4, True),
        (scheme_of(8, 32, False, "float16"), MXFP4, False),
        (scheme_of(4, 32), MXFP4, False),
        (scheme_of(8, 16), NVFP4, True),
        (scheme_of(8, 32), NVFP4, False),
        (NVFP4, replace(NVFP4, factor=0.3), False),  # it would be rounded to another factor
        (replace(NVFP4, factor=None), replace(NVFP4, factor=0.3), True),
    ],
)
def test_a_scheme_holds_a_grid_of_no_more_bits_and_longer_groups(scheme, native, held):
    assert holds(scheme, native) is held


def test_schemes_that_hold_all_grids():
    four, zero, eight = scheme_of(4, 128), scheme_of(4, 64, True), scheme_of(8, 32)
    assert joint_scheme([four, four], [512]) == four
    assert joint_scheme([four, zero], [512]) == scheme_of(4, 64, True)
    assert joint_scheme([four, eight], [512]) == eight
    assert joint_scheme([four, zero], [192]) == scheme_of(4, 32, True)  # three blocks of 64 are odd
    assert joint_scheme([four, None], [512]) is None
    assert joint_scheme([], []) is None
    assert joint_scheme([MXFP4, MXFP4], [512], floats=True) == MXFP4
    assert joint_scheme([MXFP4, MXFP4], [512]) == scheme_of(8, 32, False, "bfloat16")
    assert joint_scheme([MXFP4, NVFP4], [512], floats=True) == scheme_of(8, 16)
    assert joint_scheme([MXFP4, four], [512], floats=True) == scheme_of(8, 32)
    own = [replace(NVFP4, factor=factor) for factor in (0.3, 0.4)]
    assert joint_scheme(own, [512], floats=True) == replace(NVFP4, factor=None)
    assert joint_scheme(own, [48], floats=True) == scheme_of(8, 16)  # of whose dimensions the kernel refuses
    assert holds(scheme_of(4, 32), four)
    assert not holds(scheme_of(4, 128), scheme_of(4, 64))
    assert not holds(scheme_of(4, 64), zero)
    assert not holds(four, eight)
    assert not holds(FP32, four)
    assert not holds(four, None)


@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize(
    "scheme",
    [
        scheme_of(4, 64),
        scheme_of(4, 16, True),
        *(scheme_of(bits, 32, zero) for bits in (5, 6, 8) for zero in (False, True)),
    ],
)
def test_a_grid_in_a_scheme_that_holds_it_has_the_very_same_weights(scheme, with_zeros):
    rng = np.random.default_rng(0)
    zeros = rng.integers(0, 16, (5, 4), dtype=np.uint8) if with_zeros else None
    codes = rng.integers(0, 256, (5, 128), dtype=np.uint8)
    grid = Grid(codes, rng.standard_normal((5, 4)).astype(np.float32), zeros, 4)
    if holds(scheme, native_scheme(4, 256, 4, with_zeros)):
        assert np.array_equal(dequantize(grid.at(scheme)), grid.dequantize())
    else:
        assert with_zeros
        assert not scheme.zero_point


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scales": np.ones((3, 2), np.float32)}, "not those of 2 rows"),
        ({"zeros": np.ones((2, 1), np.uint8)}, "not those of 2 rows"),
        ({"scales": np.ones((2, 3), np.float32)}, "not 3 groups"),
        ({"scales": np.array([[1, np.inf], [1, 1]], np.float32)}, "NaN or infinity"),
        ({"group_of": np.array([0] * 15 + [2])}, "one of 2 groups"),
        ({"group_of": np.array([0] * 15)}, "one of 2 groups"),
    ],
)
def test_a_grid_of_parts_that_do_not_belong_together(change, match):
    values = {"codes": np.zeros((2, 8), np.uint8), "scales": np.ones((2, 2), np.float32), "zeros": None, "bits": 4}
    with pytest.raises(ValueError, match=match):
        Grid(**(values | change))
