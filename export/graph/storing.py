"""A matrix of the checkpoint becomes tensors of the bundle: fp32, freshly quantized codes, or its own codes unchanged.

Both lowerings share the codes; they differ in the operator that reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.matrix import Matrix, row_chunks
from moedge.export.graph.builder import Builder
from moedge.export.graph.lowering import Lowering
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import F32, Codes
from moedge.quant.grids import joint_scheme, rename_scheme
from moedge.quant.scheme import FP32, Scheme


@dataclass(frozen=True)
class StoredCodes:
    """The codes of a matrix in the weights file, as MatMulNBits' bytes: see quant/blocks.py."""

    name: str
    codes: Region
    scales: Region
    zero_points: Region | None
    scheme: Scheme
    shape: tuple[int, int]


def scheme_for(matrices: Sequence[Matrix], wanted: Scheme, what: str, notes: list[str]) -> Scheme:
    """The scheme that these matrices get together: one that holds all their own codes, else the wanted one, fitted.

    Whatever differs from what was wanted goes into `notes`.
    """
    if not wanted.quantized:
        return wanted
    sources = [source for matrix in matrices for source in matrix.sources]
    if native := joint_scheme([s.native for s in sources], [s.columns for s in sources]):
        return rename_scheme(native, "native")
    try:
        fitted = wanted.fitted(*(m.shape[1] for m in matrices))
    except ValueError as error:
        raise MoedgeError(f"{what} cannot be quantized ({error}): use --scheme fp32.") from None
    if fitted.block != wanted.block:
        sizes = " and ".join(str(k) for k in sorted({m.shape[1] for m in matrices}))
        notes.append(f"{what}: block {fitted.block} instead of {wanted.block}, for input dimensions of {sizes}")
    return fitted


def note_other_scheme(low: Lowering, scheme: Scheme) -> None:
    """A layer's routed experts get a scheme; the manifest and the kernel probe know that of the last layer."""
    if low.expert_scheme not in (None, scheme):
        low.notes.append(
            f"routed experts: layers differ in scheme, the kernel is proved at load for the last one's, {scheme.name}"
        )
    low.expert_scheme = scheme


def read_whole(matrix: Matrix) -> F32:
    """A whole matrix as fp32, for what no scheme rounds; MoedgeError if it holds NaN or infinity."""
    values = matrix.read(0, matrix.shape[0])
    if not np.isfinite(values).all():
        raise MoedgeError(f"{matrix.name} holds NaN or infinity: download it again.")
    return values


def store_whole(builder: Builder, name: str, matrix: Matrix, group: str) -> ir.Value:
    """A matrix that no scheme rounds, as fp32."""
    builder.weights.origins.add(group, (matrix,), FP32)
    return builder.read_matrix(name, matrix.shape, lambda: read_whole(matrix), group)


def store_quantized(builder: Builder, name: str, matrix: Matrix, scheme: Scheme, group: str) -> StoredCodes:
    """Quantize a matrix a few rows at a time into the weights file."""
    rows, columns = matrix.shape
    blocks = columns // scheme.block
    file = builder.weights
    codes = file.region(f"{name}.codes", ir.DataType.UINT8, (rows, blocks, scheme.block * scheme.bits // 8))
    scales = file.region(f"{name}.scales", ir.DataType.FLOAT, (rows, blocks))
    zeros = None
    if scheme.zero_point:
        zeros = file.region(f"{name}.zero_points", ir.DataType.UINT8, (rows, blocks * scheme.bits // 8))
    for start, stop in () if codes.kept else row_chunks(matrix):
        part = matrix.codes(scheme, start, stop)
        codes.write(part.codes, start * part.codes.shape[1])
        scales.write(part.scales, start * blocks * 4)
        if zeros is not None and part.zero_points is not None:
            zeros.write(part.zero_points, start * part.zero_points.shape[1])
    total = codes.nbytes + scales.nbytes + (zeros.nbytes if zeros else 0)
    file.account(group, scheme.name, rows * columns, total)
    file.origins.add(group, (matrix,), scheme)
    return StoredCodes(name, codes, scales, zeros, scheme, (rows, columns))


def store_float(builder: Builder, name: str, matrix: Matrix, group: str) -> ir.Value:
    """Copy a matrix as fp32 into the weights file, a few rows at a time."""
    rows, columns = matrix.shape
    region = builder.weights.region(name, ir.DataType.FLOAT, (rows, columns))
    for start, stop in () if region.kept else row_chunks(matrix):
        region.write(matrix.read(start, stop), start * columns * 4)
    builder.weights.account(group, "fp32", rows * columns, region.nbytes)
    builder.weights.origins.add(group, (matrix,), FP32)
    return builder.initializer(region.tensor)


def dequantize_stored(builder: Builder, stored: StoredCodes) -> ir.Value:
    """Standard ONNX: DequantizeLinear over the same bytes, as (u)int4 or (u)int8 [N, K] in blocks along K.

    Symmetric codes are unsigned around 8 or 128, so they carry that zero point once a block.
    """
    rows, columns = stored.shape
    scheme, file = stored.scheme, builder.weights
    dtype = ir.DataType.UINT4 if scheme.bits == 4 else ir.DataType.UINT8
    codes = builder.initializer(file.alias(stored.codes, f"{stored.name}.weight_codes", dtype, (rows, columns)))
    scales = builder.initializer(stored.scales.tensor)
    blocks = columns // scheme.block
    if stored.zero_points is not None:
        zeros = builder.initializer(
            file.alias(stored.zero_points, f"{stored.name}.weight_zeros", dtype, (rows, blocks))
        )
    else:
        region = file.region(f"{stored.name}.weight_zeros", dtype, (rows, blocks))
        region.write(np.full(region.nbytes, 0x88 if scheme.bits == 4 else 0x80, np.uint8))
        zeros = builder.initializer(region.tensor)
    attributes: dict[str, int | float | str | list[int] | ir.Graph] = {"axis": 1, "block_size": scheme.block}
    return builder.op("DequantizeLinear", codes, scales, zeros, attributes=attributes)


def scale_codes(codes: Codes, factor: float) -> Codes:
    """The same codes for a matrix `factor` times as large."""
    return codes if factor == 1.0 else replace(codes, scales=codes.scales * np.float32(factor))
