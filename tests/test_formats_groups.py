"""How long a group is stands in the config, or in a g_idx: a last one may be short, and nothing is guessed from K / G.

448 columns in groups of 128 are four groups, as in groups of 112; 352 in groups of 64 are six, which do not divide.
"""

import json

import numpy as np
import pytest
import quantized_checkpoints as quantized
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.blocks import dequantize
from moedge.quant.grids import Grid, find_group, holds, native_scheme
from moedge.quant.rounding import NEAREST
from moedge.quant.scheme import scheme_of
from moedge.runtime import Engine

ROWS = 16
UNEVEN = torch.tensor([1.0, 4.0])  # so that a neighbour's scale is far off


def packed_codes(columns, group, bits, symmetric, rows_packed=True):
    """Compressed-tensors' codes with a short last group, packed by its own package; which does not pack such scales."""
    rng, of = np.random.default_rng(0), np.arange(columns) // group
    low = -(2 ** (bits - 1))
    values = rng.integers(low, -low, (ROWS, columns))
    scale = rng.random((ROWS, of.max() + 1), np.float32) + 0.5
    zero = np.zeros_like(scale, int) if symmetric else rng.integers(low, -low, scale.shape)
    dense = ((values - zero[:, of]) * scale[:, of]).astype(np.float32)
    stored = {"weight_scale": torch.from_numpy(scale), "weight_shape": torch.tensor([ROWS, columns])}
    codes, zeros = (torch.from_numpy(array.astype(np.int8)) for array in (values, zero))
    stored["weight_packed"] = quantized.pack_to_int32(codes, bits)
    if not symmetric:
        stored["weight_zero_point"] = quantized.pack_to_int32(zeros, bits, packed_dim=0)
    if not rows_packed:
        del stored["weight_packed"], stored["weight_shape"]
        stored |= {"weight": codes} | ({} if symmetric else {"weight_zero_point": zeros})
    return stored, dense


def encoded(name, columns, group):
    """Tensors of module m in a format, the weights they stand for, and the config."""
    symmetric = "zeros" not in name
    if name.startswith(("packed", "int8")):
        bits = 8 if "8" in name else 4
        stored, dense = packed_codes(columns, group, bits, symmetric, name.startswith("packed"))
        weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}
        kind = "pack-quantized" if name.startswith("packed") else "int-quantized"
        return stored, dense, quantized.compressed_config(kind, **weights)
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, columns)).astype(np.float32))
    weight *= UNEVEN[torch.arange(columns) // group % 2]
    makers = {
        "gptq": quantized.gptq(4, group), "gptq zeros": quantized.gptq(4, group, False),
        "gptq v2 zeros": quantized.gptq(4, group, False, 2), "gptq 8": quantized.gptq(8, group, False),
        "awq zeros": quantized.awq(group),
    }  # fmt: skip
    encode, config = makers[name]
    stored, dense = encode(weight)
    return stored, dense.numpy(), config


FORMATS = (
    "gptq", "gptq zeros", "gptq v2 zeros", "gptq 8", "awq zeros", "packed", "packed zeros", "packed 8 zeros",
    "int8 zeros",
)  # fmt: skip


def open_m(folder, stored, config, columns):
    save_file({f"m.{part}": tensor.contiguous() for part, tensor in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    return Checkpoint(folder)


@pytest.mark.parametrize(("columns", "group"), [(448, 128), (448, 64), (352, 64), (96, 128), (320, 48)])
@pytest.mark.parametrize("name", FORMATS)
def test_column_k_belongs_to_group_k_by_the_stated_size(name, columns, group, tmp_path):
    stored, dense, config = encoded(name, columns, group)
    with_g_idx = (True, False) if "g_idx" in stored else (False,)
    for there in with_g_idx:
        parts = {part: tensor for part, tensor in stored.items() if there or part != "g_idx"}
        with open_m(tmp_path, parts, config, columns) as checkpoint:
            matrix = open_matrix(checkpoint, "m", (ROWS, columns))
            assert np.array_equal(matrix.read(0, ROWS), dense)
            assert np.array_equal(matrix.read(3, 13), dense[3:13])
            [source] = matrix.sources
            if columns > group:
                assert f"group {group}" in source.format
            assert source.native is not None
            assert columns % source.native.block == 0
            codes = matrix.codes(source.native, NEAREST, 3, 13)
            assert np.array_equal(dequantize(codes), dense[3:13])
            assert checkpoint.unconsumed([]) == []


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("size", "match"),
    [
        (112, None),  # gives four groups of 448 too: what is stated is believed
        (64, "has 4 groups for 448 columns, where the config states a group_size of 64"),
        (256, "a group_size of 256: they do not belong together"),
        (-1, "a group_size of 448: they do not belong together"),
        (0, "group_size"),
        (None, "has 4 groups for 448 columns, and the config states no group_size: write it into"),
    ],
)
def test_a_stated_size_that_does_not_give_these_groups(name, size, match, tmp_path):
    stored, dense, config = encoded(name, 448, 128)
    stored.pop("g_idx", None)
    place = config.get("config_groups", {}).get("group_0", {}).get("weights", config)
    place["group_size"] = size
    if size == -1 and "config_groups" in config:
        place["strategy"] = "channel"
    with open_m(tmp_path, stored, config, 448) as checkpoint:
        if match is None:
            assert not np.array_equal(open_matrix(checkpoint, "m", (ROWS, 448)).read(0, ROWS), dense)
            return
        with pytest.raises(MoedgeError, match=match) as caught:
            open_matrix(checkpoint, "m", (ROWS, 448))
        assert "download" not in str(caught.value)


@pytest.mark.parametrize(("sizes", "match"), [((64, 128), None), ((128, 120), "which groups of 120 and of 128 give")])
def test_sizes_that_only_some_matrices_have(sizes, match, tmp_path):
    """GPTQModel's `dynamic` and AutoRound's `extra_config` state them by name; codes and scales tell which it is."""
    stored, dense, config = encoded("gptq zeros", 448, 128)
    del stored["g_idx"]
    rounds = {"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "bits": 4, "sym": False}
    others = {r"+:.*\.m$": {"group_size": sizes[1], "bits": 4}, "-:.*n": {}}
    for states in (config | {"dynamic": others}, rounds | {"extra_config": others}):
        with open_m(tmp_path, stored, states | {"group_size": sizes[0]}, 448) as checkpoint:
            if match is None:
                assert np.array_equal(open_matrix(checkpoint, "m", (ROWS, 448)).read(0, ROWS), dense)
                continue
            with pytest.raises(MoedgeError, match=match):
                open_matrix(checkpoint, "m", (ROWS, 448))


def test_one_row_of_several_groups(tmp_path):
    """A shared expert's gate has one row, and its scales [1, G] are not one for all."""
    stored, dense = packed_codes(128, 32, 4, True)
    stored = {part: tensor[:1] for part, tensor in stored.items() if part != "weight_shape"}
    stored["weight_shape"] = torch.tensor([1, 128])
    with open_m(tmp_path, stored, quantized.packed(4, 32)[1], 128) as checkpoint:
        assert np.array_equal(open_matrix(checkpoint, "m", (1, 128)).read(0, 1), dense[:1])


def test_scales_of_rows_without_a_second_axis(tmp_path):
    encode, config = quantized.int8()
    stored, dense = encode(torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(0)))
    stored["weight_scale"] = stored["weight_scale"].reshape(-1)
    with open_m(tmp_path, stored, config, 64) as checkpoint:
        assert np.array_equal(open_matrix(checkpoint, "m", (ROWS, 64)).read(2, 9), dense.numpy()[2:9])


def test_mxfp4_whose_blocks_do_not_divide_the_columns(tmp_path):
    stored = {f"weight_{part}": torch.zeros(ROWS, n, dtype=torch.uint8) for part, n in (("packed", 24), ("scale", 1))}
    with (
        open_m(tmp_path, stored, quantized.compressed_mxfp4()[1], 48) as checkpoint,
        pytest.raises(MoedgeError, match="blocks of 32 do not divide 48"),
    ):
        open_matrix(checkpoint, "m", (ROWS, 48))


@pytest.mark.parametrize("stated", [None, "gptq", "gptq_v2"])
@pytest.mark.parametrize("version", [1, 2])
def test_symmetric_codes_whose_zero_points_are_stored_as_another_version_does(version, stated, tmp_path):
    """Zero points of 8, stored as 8 where 7 is meant, would move every weight by one step."""
    weight = torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(0))
    encode, config = quantized.gptq(4, 32, True, version)
    stored, dense = encode(weight)
    config["checkpoint_format"] = stated
    with open_m(tmp_path, stored, config, 64) as checkpoint:
        if (stated == "gptq_v2") == (version == 2):
            assert np.array_equal(open_matrix(checkpoint, "m", (ROWS, 64)).read(0, ROWS), dense.numpy())
            return
        with pytest.raises(MoedgeError, match=r"m\.qzeros holds [78] throughout.*checkpoint_format gptq"):
            open_matrix(checkpoint, "m", (ROWS, 64))


def test_groups_by_hand():
    assert find_group(np.array([0, 0, 0, 1, 1, 1, 2])) == 3
    assert find_group(np.array([0, 0, 0])) == 3
    assert find_group(np.array([0, 1, 0, 1])) is None
    assert find_group(np.array([1, 1, 0, 0])) is None
    assert find_group(np.full(4, -1)) is None
    assert native_scheme(4, 448, 4, False, 128) == scheme_of(4, 64)
    assert native_scheme(4, 448, 4, True, 128) == scheme_of(4, 32, True)  # seven blocks of 64 are odd
    assert native_scheme(8, 10944, 86, False, 128) == scheme_of(8, 64)
    assert native_scheme(4, 100, 2, False, 64) is None
    with pytest.raises(ValueError, match="not 4 groups of 96"):
        Grid(np.zeros((1, 224), np.uint8), np.ones((1, 4), np.float32), None, 4, None, 96)


@pytest.mark.parametrize("zeros", [None, np.array([[1, 9, 15]], np.uint8)])
@pytest.mark.parametrize("scheme", [scheme_of(4, 16), scheme_of(8, 16, True), scheme_of(8, 32), scheme_of(4, 16, True)])
def test_a_short_last_group_in_a_scheme_that_holds_it(scheme, zeros):
    codes = np.random.default_rng(0).integers(0, 256, (1, 80), dtype=np.uint8)  # 160 columns: 64, 64 and 32
    grid = Grid(codes, np.array([[0.5, 2, 8]], np.float32), zeros, 4, None, 64)
    native = native_scheme(4, 160, 3, zeros is not None, 64)
    assert native == scheme_of(4, 16 if zeros is not None else 32, zeros is not None)
    if holds(scheme, native):
        assert np.array_equal(dequantize(grid.at(scheme)), grid.dequantize())
        assert np.array_equal(grid.rows(0, 1).dequantize(), grid.dequantize())
    else:
        assert zeros is not None
        assert not scheme.zero_point or scheme.block == 32


def test_a_whole_model_with_short_last_groups(tmp_path):
    """Experts of 224 columns in groups of 64, which are four: 224 / 4 = 56 divides too, and is not meant."""
    config = tiny.qwen3_moe(hidden_size=128, moe_intermediate_size=224, num_hidden_layers=2, num_experts=4)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    encode, quantization = quantized.gptq(4, 64, False)
    dense = quantized.convert(tmp_path / "checkpoint", quantized.EXPERTS, encode, quantization)
    path = tmp_path / "checkpoint" / "model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if not name.endswith("g_idx")}, path, {"format": "pt"})
    ids = np.random.default_rng(0).integers(2, 211, 40)
    expected = tiny.reference_logits(quantized.dense_model(tmp_path / "checkpoint", dense), ids)
    for scheme in ("fp32", "int4"):
        bundle = tmp_path / scheme
        export_bundle(tmp_path / "checkpoint", bundle, ExportOptions(parse_plan(scheme), "if"))
        if scheme == "fp32":
            assert np.abs(Engine.load(bundle).score(ids.tolist()) - expected).max() <= 1e-3 * np.abs(expected).max()
    [routed] = [
        o for o in json.loads((bundle / "report.json").read_text())["origins"] if o["group"] == "routed experts"
    ]
    assert (routed["outcome"], routed["matrices"]) == ("codes unchanged", 2 * 4 * 3)
