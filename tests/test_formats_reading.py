"""Matrices read in parts: any rows of any format, stacked, reordered or picked, and no more of the file than needed."""

import json

import numpy as np
import nvfp4_checkpoints as nvfp4
import pytest
import quantized_checkpoints as quantized
import torch
from safetensors.torch import save_file

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_expert, open_matrix
from moedge.export.checkpoint.views import Interleaved, Reordered, pick_rows, stack
from moedge.export.writing.account import Account
from moedge.quant.blocks import dequantize
from moedge.quant.rounding import NEAREST
from moedge.quant.scheme import FP32, scheme_of

ROWS, COLUMNS = 40, 192
FORMATS = {
    "bf16": (lambda w: ({"weight": w.bfloat16()}, w.bfloat16().float()), None),
    "packed": quantized.packed(4, 32),
    "packed, zero points": quantized.packed(4, 32, False),
    "packed a row": quantized.packed(4, None, False),
    "packed 8 bits": quantized.packed(8, 64, False),
    "int8": quantized.int8(False),
    "fp8": quantized.fp8(16, 128),
    "fp8 a row": quantized.compressed_fp8("channel"),
    "mxfp4": quantized.compressed_mxfp4(),
    "nvfp4": nvfp4.modelopt_nvfp4(),
    "compressed nvfp4": nvfp4.compressed_nvfp4(2.0**-10),
    "gptq": quantized.gptq(4, 64, False),
    "gptq v2, ordered": quantized.gptq(4, 32, False, 2, True),
    "gptq 8 bits": quantized.gptq(8, 96, False),
    "awq": quantized.awq(64),
}


def weight(seed=0, rows=ROWS, columns=COLUMNS):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32))


def open_checkpoint(folder, tensors, quantization=None):
    """A checkpoint of these tensors, and the list of the bytes of each read."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    read = []
    return Checkpoint(folder, read.append), read


def encoded(name, modules=("m",)):
    """The tensors of some modules in a format, and their weights."""
    encode, config = FORMATS[name]
    tensors, dense = {}, []
    for seed, module in enumerate(modules):
        parts, plain = encode(weight(seed))
        tensors |= {f"{module}.{part}": tensor for part, tensor in parts.items()}
        dense.append(plain.numpy())
    return tensors, dense, config


@pytest.mark.parametrize("name", FORMATS)
def test_any_rows_are_those_of_the_whole(name, tmp_path):
    tensors, [dense], config = encoded(name)
    checkpoint, _ = open_checkpoint(tmp_path, tensors, config)
    with checkpoint:
        matrix = open_matrix(checkpoint, "m", (ROWS, COLUMNS))
        for start, stop in ((0, ROWS), (0, 1), (3, 13), (8, 16), (39, 40), (15, 40)):
            assert np.array_equal(matrix.read(start, stop), dense[start:stop])
        [source] = matrix.sources
        for scheme in filter(None, (source.native, scheme_of(4, 32), scheme_of(8, 32, True))):
            whole = matrix.codes(scheme, NEAREST, 0, ROWS)
            assert (whole.zero_points is not None) == scheme.zero_point
            for start, stop in ((0, 1), (3, 13), (15, 40)):
                assert np.array_equal(
                    dequantize(matrix.codes(scheme, NEAREST, start, stop)), dequantize(whole)[start:stop]
                )
        if source.native:
            assert np.array_equal(dequantize(matrix.codes(source.native, NEAREST, 0, ROWS)), dense)
        # every tensor of the module has been consumed, but for g_idx where order says the same
        assert checkpoint.unconsumed([]) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_few_rows_do_not_read_the_whole(name, tmp_path):
    tensors, _, config = encoded(name)
    checkpoint, read = open_checkpoint(tmp_path, tensors, config)
    with checkpoint:
        matrix = open_matrix(checkpoint, "m", (ROWS, COLUMNS))
        del read[:]
        matrix.read(8, 16)
        some = sum(read)
        del read[:]
        matrix.read(0, ROWS)
        assert some <= sum(read) / 4


@pytest.mark.parametrize("name", ["packed, zero points", "gptq", "awq", "bf16"])
def test_stacked_reordered_interleaved_and_picked_rows_carry_their_zero_points(name, tmp_path):
    tensors, dense, config = encoded(name, ("a", "b"))
    checkpoint, _ = open_checkpoint(tmp_path, tensors, config)
    with checkpoint:
        parts = [open_matrix(checkpoint, module, (ROWS, COLUMNS)) for module in "ab"]
        order = np.random.default_rng(0).permutation(2 * ROWS)
        both = np.concatenate(dense)
        turns = np.arange(2 * ROWS).reshape(2, ROWS).T.reshape(-1)
        made = {"in another order": (Reordered(stack(parts), order), both[order])}
        made["in turn"] = (Interleaved(*parts), both[turns])
        odd = pick_rows(parts[0], 1, ROWS, 2)
        scheme = parts[0].sources[0].native or scheme_of(8, 32, True)
        for start, stop in ((0, 80), (7, 50), (8, 51)):
            for joined, expected in made.values():
                assert np.array_equal(joined.read(start, stop), expected[start:stop])
                codes = joined.codes(scheme, NEAREST, start, stop)
                assert codes.zero_points is not None
                assert np.allclose(dequantize(codes), expected[start:stop], atol=0.02)
                if name != "bf16":
                    assert np.array_equal(dequantize(codes), expected[start:stop])
        assert odd.shape == (ROWS // 2, COLUMNS)
        assert np.array_equal(odd.read(2, 9), dense[0][1::2][2:9])
        assert np.array_equal(
            dequantize(odd.codes(scheme, NEAREST, 0, 20)), dequantize(parts[0].codes(scheme, NEAREST, 0, ROWS))[1::2]
        )


def test_a_stack_of_codes_and_plain_numbers_keeps_the_codes_that_fit(tmp_path):
    tensors, [dense], config = encoded("gptq")
    plain = weight(5)
    checkpoint, _ = open_checkpoint(tmp_path, tensors | {"p.weight": plain}, config)
    with checkpoint:
        both = stack([open_matrix(checkpoint, module, (ROWS, COLUMNS)) for module in ("m", "p")])
        found = dequantize(both.codes(scheme_of(4, 32, True), NEAREST, 0, 2 * ROWS))
        assert np.array_equal(found[:ROWS], dense)
        assert 0 < np.abs(found[ROWS:] - plain.numpy()).max() < 0.5
        account = Account()
        account.add("attention", scheme_of(4, 32, True), 0, 0, (both,))
        account.add("attention", scheme_of(4, 32), 0, 0, (both,))
        account.add("attention", FP32, 0, 0, (both,))
        outcomes = [(o.format, o.outcome, o.matrices, o.parameters) for o in account.origins()]
        size, kind = ROWS * COLUMNS, "gptq int4 group 64, with zero points"
        assert outcomes == [
            (kind, "codes unchanged", 1, size), ("f32", "quantized", 1, size),
            (kind, "dequantized and quantized", 1, size), ("f32", "quantized", 1, size),
            (kind, "dequantized", 1, size), ("f32", "as it is", 1, size),
        ]  # fmt: skip


@pytest.mark.parametrize("transposed", [False, True])
def test_planes_are_read_in_parts(transposed, tmp_path):
    whole = torch.stack([weight(e) for e in range(3)])
    checkpoint, read = open_checkpoint(tmp_path, {"experts": whole.transpose(1, 2) if transposed else whole})
    with checkpoint:
        for expert in range(3):
            matrix = open_expert(checkpoint, "experts", expert, (ROWS, COLUMNS), transposed)
            assert np.array_equal(matrix.read(0, ROWS), whole[expert].numpy())
            del read[:]
            assert np.array_equal(pick_rows(matrix, 1, ROWS, 2).read(3, 6), whole[expert][1::2][3:6].numpy())
            assert sum(read) == 5 * COLUMNS * 4
        with pytest.raises(Exception, match=r"expert 3 is wanted"):
            open_expert(checkpoint, "experts", 3, (ROWS, COLUMNS), transposed)
        with pytest.raises(Exception, match=r"experts has the shape"):
            open_expert(checkpoint, "experts", 0, (ROWS, COLUMNS), not transposed)


def test_activation_ordering_of_compressed_tensors(tmp_path):
    """weight_g_idx names each column's group; the package dropped it in 2026, checkpoints of before have it."""
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 8, (8, 64))
    scale, of = rng.random((8, 2), np.float32), rng.permutation(np.repeat([0, 1], 32)).astype(np.int32)
    tensors = {
        "weight_packed": quantized.pack_to_int32(torch.from_numpy(values.astype(np.int8)), 4),
        "weight_scale": torch.from_numpy(scale), "weight_shape": torch.tensor([8, 64]),
    }  # fmt: skip
    for order, groups in ((of, of), (np.full(64, -1, np.int32), np.arange(64) // 32)):
        named = {f"m.{part}": t for part, t in (tensors | {"weight_g_idx": torch.from_numpy(order)}).items()}
        checkpoint, _ = open_checkpoint(tmp_path, named, quantized.packed(4, 32)[1])
        with checkpoint:
            matrix = open_matrix(checkpoint, "m", (8, 64))
            assert np.array_equal(matrix.read(2, 5), (values * scale[:, groups])[2:5].astype(np.float32))
            assert (matrix.sources[0].native is None) == (order is of)


def test_scales_that_are_powers_of_two_by_their_exponents(tmp_path):
    encode, config = quantized.fp8(16, 64)
    parts, _ = encode(weight())
    exponents = torch.from_numpy(np.random.default_rng(0).integers(110, 130, (3, 3), dtype=np.uint8))
    spread = (2.0 ** (exponents.float() - 127)).repeat_interleave(16, 0)[:ROWS].repeat_interleave(64, 1)
    dense = (parts["weight"].float() * spread).numpy()
    for scales in (exponents, exponents.view(torch.float8_e8m0fnu)):
        tensors = {"m.weight": parts["weight"], "m.weight_scale_inv": scales}
        checkpoint, _ = open_checkpoint(tmp_path, tensors, config)
        with checkpoint:
            assert np.array_equal(open_matrix(checkpoint, "m", (ROWS, COLUMNS)).read(3, 37), dense[3:37])
