"""Matrices published as integer codes: which tensors hold them, and which parts of these a few rows need.

The layouts stand as formulas in quant/formats/.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.errors import MisshapenError
from moedge.export.checkpoint.folder import POWERS, Checkpoint
from moedge.export.checkpoint.matrix import Coded, Matrix
from moedge.quant.blocks import F32, U8
from moedge.quant.formats.awq import grid_from_awq
from moedge.quant.formats.compressed_tensors import grid_from_int8, grid_from_packed, zeros_from_packed
from moedge.quant.formats.gptq import grid_from_gptq, zeros_from_gptq
from moedge.quant.formats.mxfp4 import BLOCK, grid_from_mxfp4
from moedge.quant.grids import Grid, in_order, native_scheme

Columns = NDArray[np.int64] | None


def packed_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.weight_packed` of compressed-tensors: int4 or int8, or MXFP4 where it is bytes."""
    packed, (rows, columns) = f"{name}.weight_packed", shape
    if checkpoint.dtype(packed) == "U8":
        checkpoint.expect(packed, rows, columns // 2)
        checkpoint.expect(f"{name}.weight_scale", rows, columns // BLOCK)
        scale = f"{name}.weight_scale"
        if checkpoint.dtype(scale) not in POWERS:
            raise MoedgeError(f"{scale} is stored as {checkpoint.dtype(scale)} where MXFP4 has bytes: take another.")
        native = native_scheme(8, columns, columns // BLOCK, False)
        grid = _Mxfp4(checkpoint, packed, scale)
        return Coded(name, shape, "compressed-tensors mxfp4", native, (packed, scale), grid)
    shape_name = f"{name}.weight_shape"
    if prod(checkpoint.shape(shape_name)) != 2:
        raise MisshapenError(shape_name, checkpoint.shape(shape_name), "rows and columns are wanted")
    stated = checkpoint.peek(shape_name)
    said = [rows, columns] if stated is None else stated.reshape(-1).tolist()
    bits = next((b for b in (4, 8) if checkpoint.shape(packed) == (rows, columns * b // 32)), None)
    if said != [rows, columns] or bits is None or columns * bits % 32:
        raise MisshapenError(
            packed, checkpoint.shape(packed), f"the config says {shape}, in int4 or int8, and the weight_shape {said}"
        )
    return _open_compressed(checkpoint, name, shape, bits, packed=True)


def int8_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.weight` as int8 with `weight_scale`, of compressed-tensors."""
    checkpoint.expect(f"{name}.weight", *shape)
    return _open_compressed(checkpoint, name, shape, 8, packed=False)


def _open_compressed(checkpoint: Checkpoint, name: str, shape: tuple[int, int], bits: int, packed: bool) -> Matrix:
    rows, columns = shape
    scale, zero, order = (f"{name}.weight_{part}" for part in ("scale", "zero_point", "g_idx"))
    there = checkpoint.shape(scale)
    groups = there[-1] if len(there) == 2 else 1
    if there not in ((rows, groups), (1,), (), (1, 1)) or not 1 <= groups <= columns:
        raise MisshapenError(scale, there, f"{rows} rows are wanted")
    if zero in checkpoint:
        checkpoint.expect(zero, -(-rows * bits // 32) if packed else rows, groups)
    group_of = _group_of(checkpoint, order, columns, groups)
    native = None if group_of is not None else native_scheme(bits, columns, groups, zero in checkpoint)
    kind = f"compressed-tensors int{bits} {_grouping(columns, groups, zero in checkpoint, group_of)}"
    weight = f"{name}.weight_packed" if packed else f"{name}.weight"
    tensors = (weight, scale, zero) if zero in checkpoint else (weight, scale)
    return Coded(name, shape, kind, native, tensors, _Compressed(checkpoint, name, bits, packed, group_of))


def gptq_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int], one_less: bool) -> Matrix:
    """`<name>.qweight` of GPTQ; `one_less`: zero points are stored less one. Without any but the middle it has none."""
    rows, columns = shape
    there = checkpoint.shape(f"{name}.qweight")
    bits = next((b for b in (4, 8) if there == (columns * b // 32, rows)), None)
    if bits is None or columns * bits % 32 or rows * bits % 32:
        raise MisshapenError(f"{name}.qweight", there, f"the config says {shape}, in 4 or 8 bits")
    groups = _groups(checkpoint, f"{name}.scales", rows, columns)
    checkpoint.expect(f"{name}.qzeros", groups, rows * bits // 32)
    group_of = _group_of(checkpoint, f"{name}.g_idx", columns, groups)
    packed = checkpoint.peek(f"{name}.qzeros")
    zeros = None if packed is None else zeros_from_gptq(packed, bits, one_less)
    symmetric = zeros is None or bool((zeros == 1 << (bits - 1)).all())
    native = None if group_of is not None else native_scheme(bits, columns, groups, not symmetric)
    kind = f"gptq int{bits} {_grouping(columns, groups, not symmetric, group_of)}"
    tensors = f"{name}.qweight", f"{name}.scales"
    return Coded(name, shape, kind, native, tensors, _Gptq(checkpoint, name, bits, one_less, symmetric, group_of))


def awq_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.qweight` of AWQ's gemm version."""
    rows, columns = shape
    if rows % 8:
        raise MoedgeError(f"{name}.qweight packs eight rows a word, of {rows} by the config: correct config.json.")
    checkpoint.expect(f"{name}.qweight", columns, rows // 8)
    groups = _groups(checkpoint, f"{name}.scales", rows, columns)
    with_zeros = f"{name}.qzeros" in checkpoint
    if with_zeros:
        checkpoint.expect(f"{name}.qzeros", groups, rows // 8)
    if columns % groups:
        raise MoedgeError(f"{name}.scales has {groups} groups, which do not divide {columns}: download it again.")
    kind = f"awq int4 {_grouping(columns, groups, with_zeros, None)}"
    native = native_scheme(4, columns, groups, with_zeros)
    tensors = tuple(f"{name}.{part}" for part in ("qweight", "scales", "qzeros")[: 2 + with_zeros])
    return Coded(name, shape, kind, native, tensors, _Awq(checkpoint, name, with_zeros))


def mxfp4_plane(checkpoint: Checkpoint, name: str, expert: int, shape: tuple[int, int]) -> Matrix:
    """An expert of `<name>_blocks` [E, rows, columns / 32, 16] and `<name>_scales` [E, rows, columns / 32]."""
    rows, columns = shape
    blocks, scales = f"{name}_blocks", f"{name}_scales"
    experts = next(iter(checkpoint.shape(blocks)), 0)
    checkpoint.expect(blocks, experts, rows, columns // BLOCK, BLOCK // 2)
    checkpoint.expect(scales, experts, rows, columns // BLOCK)
    if columns % BLOCK or expert >= experts:
        raise MisshapenError(
            blocks, checkpoint.shape(blocks), f"expert {expert} of {shape} is wanted, in blocks of {BLOCK}"
        )
    native = native_scheme(8, columns, columns // BLOCK, False)
    grid = _Mxfp4(checkpoint, blocks, scales, expert)
    return Coded(f"{name}[{expert}]", shape, "mxfp4", native, (blocks, scales), grid)


@dataclass(frozen=True, eq=False)
class _Compressed:
    checkpoint: Checkpoint
    name: str
    bits: int
    packed: bool
    group_of: Columns

    def __call__(self, start: int, stop: int) -> Grid:
        scales = self._scales(start, stop)
        if self.packed:
            packed = self.checkpoint.read(f"{self.name}.weight_packed", start, stop)
            return grid_from_packed(packed, scales, self._packed_zeros(start, stop), self.bits, self.group_of)
        zero = f"{self.name}.weight_zero_point"
        zeros = self.checkpoint.read(zero, start, stop) if zero in self.checkpoint else None
        weight = self.checkpoint.read(f"{self.name}.weight", start, stop)
        return grid_from_int8(weight, scales, zeros, self.group_of)

    def _scales(self, start: int, stop: int) -> F32:
        name = f"{self.name}.weight_scale"
        shape = self.checkpoint.shape(name)
        if len(shape) == 2 and shape[0] > 1:
            return self.checkpoint.read_float(name, start, stop)
        return np.repeat(self.checkpoint.read_float(name).reshape(1, 1), stop - start, axis=0)

    def _packed_zeros(self, start: int, stop: int) -> U8 | None:
        name = f"{self.name}.weight_zero_point"
        if name not in self.checkpoint:
            return None
        words, a, b = _words(start, stop, 32 // self.bits)
        return zeros_from_packed(self.checkpoint.read_part(name, words), self.bits)[a:b]


@dataclass(frozen=True, eq=False)
class _Gptq:
    checkpoint: Checkpoint
    name: str
    bits: int
    one_less: bool
    symmetric: bool
    group_of: Columns

    def __call__(self, start: int, stop: int) -> Grid:
        every, some = slice(None), slice(start, stop)
        codes = self.checkpoint.read_part(f"{self.name}.qweight", every, some)
        scales = self.checkpoint.read_float_part(f"{self.name}.scales", every, some)
        zeros = None
        if not self.symmetric:
            words, a, b = _words(start, stop, 32 // self.bits)
            qzeros = self.checkpoint.read_part(f"{self.name}.qzeros", every, words)
            zeros = zeros_from_gptq(qzeros, self.bits, self.one_less)[a:b]
        return grid_from_gptq(codes, scales, zeros, self.bits, self.group_of)


@dataclass(frozen=True)
class _Awq:
    checkpoint: Checkpoint
    name: str
    with_zeros: bool

    def __call__(self, start: int, stop: int) -> Grid:
        every, (words, a, b) = slice(None), _words(start, stop, 8)
        codes = self.checkpoint.read_part(f"{self.name}.qweight", every, words)
        whole = slice(words.start * 8, words.stop * 8)
        scales = self.checkpoint.read_float_part(f"{self.name}.scales", every, whole)
        zeros = self.checkpoint.read_part(f"{self.name}.qzeros", every, words) if self.with_zeros else None
        return grid_from_awq(codes, scales, zeros).rows(a, b)


@dataclass(frozen=True)
class _Mxfp4:
    checkpoint: Checkpoint
    blocks: str
    scales: str
    expert: int | None = None  # of a tensor of many

    def __call__(self, start: int, stop: int) -> Grid:
        some = slice(start, stop)
        part = (some,) if self.expert is None else (slice(self.expert, self.expert + 1), some)
        packed, scales = (self.checkpoint.read_part(name, *part) for name in (self.blocks, self.scales))
        return grid_from_mxfp4(packed.reshape(stop - start, -1), scales.reshape(stop - start, -1))


def _group_of(checkpoint: Checkpoint, name: str, columns: int, groups: int) -> Columns:
    """The groups of the columns, by a g_idx; None where there is none or it says no more than their order does."""
    if name not in checkpoint:
        return None
    checkpoint.expect(name, columns)
    stated = checkpoint.peek(name)
    if stated is None:
        return None
    group_of: NDArray[np.int64] = stated.astype(np.int64)
    if in_order(group_of, columns, groups) or (group_of == -1).all():  # -1: compressed-tensors' for none
        return None
    if group_of.min() < 0 or group_of.max() >= groups:
        raise MoedgeError(f"{name} names groups {group_of.min()} to {group_of.max()} of {groups}: download it again.")
    return group_of


def _groups(checkpoint: Checkpoint, name: str, rows: int, columns: int) -> int:
    """The number of groups of scales [G, rows]."""
    there = checkpoint.shape(name)
    if len(there) != 2 or there[1] != rows or not 1 <= there[0] <= columns:
        raise MisshapenError(name, there, f"{rows} rows are wanted")
    return there[0]


def _grouping(columns: int, groups: int, zero_points: bool, group_of: Columns) -> str:
    kind = "a scale a row" if groups == 1 else f"group {-(-columns // groups)}"
    zeros = ", with zero points" if zero_points else ""
    return kind + zeros + ("" if group_of is None else ", ordered by activation")


def _words(start: int, stop: int, a_word: int) -> tuple[slice, int, int]:
    """The words that hold rows start:stop, and where among their rows these begin and end."""
    first = start // a_word
    return slice(first, -(-stop // a_word)), start - first * a_word, stop - first * a_word
