"""Codes of the weights file as values of a graph: what kernels read, made of what the disk holds.

Scales in fewer bits than fp32 and codes that lie in parts are put together by nodes over constants, which ONNX Runtime
runs once, when it loads the model: kernels then see constants, the same bits as if they lay there so.
"""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from moedge.export.graph.builder import Attributes, Builder
from moedge.export.graph.storing import StoredCodes
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import F32
from moedge.quant.four_bit_floats import NUMBERS

PAIRS: F32 = NUMBERS[np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)]
_RIGHT: Attributes = {"direction": "RIGHT"}
_LEFT: Attributes = {"direction": "LEFT"}


class KernelInputs(NamedTuple):
    """What MatMulNBits and QMoE read of a matrix, codes in the scheme's `kernel_bits`; see quant/blocks.py.

    `factors` are QMoE's alone, of experts in nvfp4.
    """

    codes: ir.Value
    scales: ir.Value
    zero_points: ir.Value | None
    factors: ir.Value | None


def kernel_inputs(b: Builder, stored: StoredCodes) -> KernelInputs:
    """Of a matrix [rows, blocks, bytes], or of experts [experts, rows, bytes]."""
    (_, columns), scheme = stored.shape, stored.scheme
    if stored.upper is None:
        codes = b.initializer(stored.codes.tensor)
    else:
        codes = _joined(b, stored)
        if len(stored.codes.tensor.shape) == 2:
            codes = b.op("Reshape", codes, b.ints(-1, columns // scheme.block, scheme.block))
    zeros, factors = _initializer(b, stored.zero_points), _initializer(b, stored.matrix_factors)
    return KernelInputs(codes, kernel_scales(b, stored), zeros, factors)


def row_inputs(b: Builder, stored: StoredCodes) -> KernelInputs:
    """What GatherBlockQuantized reads of a matrix: codes as [rows, bytes]."""
    (rows, columns), scheme = stored.shape, stored.scheme
    if stored.upper is not None:
        codes = _joined(b, stored)
    else:
        width = columns * scheme.bits // 8
        codes = b.initializer(b.weights.alias(stored.codes, f"{stored.name}.rows", ir.DataType.UINT8, (rows, width)))
    return KernelInputs(codes, kernel_scales(b, stored), _initializer(b, stored.zero_points), None)


def kernel_scales(b: Builder, stored: StoredCodes) -> ir.Value:
    """A matrix's scales as fp32; those of four-bit floats as they are kept."""
    if stored.scheme.numbers == "floats":
        return b.initializer(stored.scales.tensor)
    scales = b.floats(stored.scales.tensor)
    if stored.factors is None:
        return scales
    factors = b.floats(stored.factors.tensor)
    name = f"{stored.name}.scales.whole"
    return b.once(name, lambda: b.op("Mul", scales, factors, output=name))


def dequantize_stored(b: Builder, stored: StoredCodes) -> ir.Value:
    """Standard ONNX: DequantizeLinear over the same codes, as (u)int4 or (u)int8 [N, K] in blocks along K.

    Symmetric codes are unsigned around 8 or 128, so they carry that zero point once a block.
    """
    (rows, columns), scheme, file = stored.shape, stored.scheme, b.weights
    bits, blocks = scheme.kernel_bits, columns // scheme.block
    dtype = ir.DataType.UINT4 if bits == 4 else ir.DataType.UINT8
    if stored.upper is None:
        codes = b.initializer(file.alias(stored.codes, f"{stored.name}.weight_codes", dtype, (rows, columns)))
    else:
        codes = _joined(b, stored)
    if stored.zero_points is not None:
        zeros = b.initializer(file.alias(stored.zero_points, f"{stored.name}.weight_zeros", dtype, (rows, blocks)))
    else:
        region = file.region(f"{stored.name}.weight_zeros", dtype, (rows, blocks))
        region.write(np.full(region.nbytes, 0x88 if bits == 4 else 0x80, np.uint8))
        file.account.add(stored.group, scheme, 0, region.nbytes)
        zeros = b.initializer(region.tensor)
    attributes: Attributes = {"axis": 1, "block_size": scheme.block}
    return b.op("DequantizeLinear", codes, kernel_scales(b, stored), zeros, attributes=attributes)


def dequantize_floats(b: Builder, stored: StoredCodes, pairs: ir.Value) -> ir.Value:
    """Standard ONNX, which has no operator for four-bit floats in opset 21: both of a byte are looked up in `pairs`.

    pairs [256, 2] are the numbers of a byte's lower and upper four bits (`PAIRS`).
    """
    (rows, columns), block = stored.shape, stored.scheme.block
    codes = b.op("Cast", b.initializer(stored.codes.tensor), attributes={"to": ir.DataType.INT32.value})
    numbers = b.op("Gather", pairs, codes)  # [rows, blocks, block / 2, 2]
    numbers = b.op("Reshape", numbers, b.ints(rows, columns // block, block))
    scales = b.op("Unsqueeze", kernel_scales(b, stored), b.ints(-1))
    return b.op("Reshape", b.op("Mul", numbers, scales), b.ints(rows, columns))


def join_codes(b: Builder, lower: ir.Value, upper: ir.Value, bits: int, leading: int = 1) -> ir.Value:
    """Codes of 5 or 6 bits, one a byte, of their lower 4 bits a byte each and bytes of their upper ones."""
    return b.op(
        "BitwiseOr", lower, b.op("BitShift", part_bytes(b, upper, bits - 4, leading), _byte(b, 4), attributes=_LEFT)
    )


def part_bytes(b: Builder, packed: ir.Value, bits: int, leading: int = 1) -> ir.Value:
    """Bytes [..., n] as values of 4, 2 or 1 bits [..., n * 8 / bits], the lowest first, behind `leading` dimensions."""
    shifts = b.constant(np.arange(0, 8, bits, dtype=np.uint8))
    parts = b.op("BitShift", b.op("Unsqueeze", packed, b.ints(-1)), shifts, attributes=_RIGHT)
    parts = b.op("BitwiseAnd", parts, _byte(b, (1 << bits) - 1))
    return b.op("Reshape", parts, b.constant(np.array([0] * leading + [-1], np.int64)))


def _joined(b: Builder, stored: StoredCodes) -> ir.Value:
    """Codes of 5 or 6 bits, a byte each; symmetric ones lie around 128, as a kernel wants them."""
    (_, columns), bits, upper = stored.shape, stored.scheme.bits, stored.upper
    if upper is None:
        raise AssertionError(f"{stored.name} has codes that lie in one part")
    shape = (*upper.tensor.shape.numpy()[:-1], columns)
    lower = b.weights.alias(stored.codes, f"{stored.name}.lower_codes", ir.DataType.UINT4, shape)

    def join() -> ir.Value:
        # a cast of four-bit numbers parts them without another copy
        values = b.op("Cast", b.initializer(lower), attributes={"to": ir.DataType.UINT8.value})
        codes = join_codes(b, values, b.initializer(upper.tensor), bits, len(shape) - 1)
        return codes if stored.zero_points is not None else b.op("Add", codes, _byte(b, 128 - (1 << (bits - 1))))

    return b.once(f"{stored.name}.bytes", join)


def _initializer(b: Builder, region: Region | None) -> ir.Value | None:
    return None if region is None else b.initializer(region.tensor)


def _byte(b: Builder, value: int) -> ir.Value:
    return b.constant(np.array(value, np.uint8))
