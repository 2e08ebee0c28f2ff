"""Matrices published as integer codes: which tensors hold them, and which parts of these a few rows need.

The layouts stand as formulas in quant/formats/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.errors import MisshapenError
from moedge.export.checkpoint.folder import POWERS, Checkpoint
from moedge.export.checkpoint.matrix import Coded, Matrix
from moedge.export.checkpoint.published import WHOLE_ROW
from moedge.quant.blocks import F32, U8
from moedge.quant.formats.awq import grid_from_awq
from moedge.quant.formats.compressed_tensors import grid_from_int8, grid_from_packed, zeros_from_packed
from moedge.quant.formats.gptq import grid_from_gptq, zeros_from_gptq
from moedge.quant.formats.mxfp4 import BLOCK, grid_from_mxfp4
from moedge.quant.grids import Grid, find_group, native_scheme
from moedge.quant.scheme import ScaleType, Scheme

_SCALE_TYPES: Mapping[str, ScaleType] = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which columns share a scale: see `Grid`, whose `group` and `group_of` these are."""

    count: int
    group: int | None = None
    group_of: NDArray[np.int64] | None = None

    def native(self, bits: int, columns: int, zero_points: bool, scales: ScaleType) -> Scheme | None:
        """The scheme that holds codes in these groups with such scales, if any does."""
        if self.group_of is not None:
            return None
        return native_scheme(bits, columns, self.count, zero_points, self.group, scales)

    def describe(self, columns: int, zero_points: bool) -> str:
        """As the report says it."""
        size = self.group or -(-columns // self.count)
        kind = "a scale a row" if self.count == 1 else f"group {size}"
        zeros = ", with zero points" if zero_points else ""
        return kind + zeros + ("" if self.group_of is None else ", ordered by activation")


def packed_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.weight_packed` of compressed-tensors: int4 or int8, or MXFP4 where it is bytes."""
    packed, (rows, columns) = f"{name}.weight_packed", shape
    if checkpoint.dtype(packed) == "U8":
        if columns % BLOCK:
            raise MoedgeError(f"{packed} holds MXFP4, whose blocks of {BLOCK} do not divide {columns}: take another.")
        checkpoint.expect(packed, rows, columns // 2)
        checkpoint.expect(f"{name}.weight_scale", rows, columns // BLOCK)
        scale = f"{name}.weight_scale"
        if checkpoint.dtype(scale) not in POWERS:
            raise MoedgeError(f"{scale} is stored as {checkpoint.dtype(scale)} where MXFP4 has bytes: take another.")
        native = native_scheme(8, columns, columns // BLOCK, False, None, "bfloat16")  # powers of two
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
    checkpoint.require_float(scale)
    there = checkpoint.shape(scale)
    count = there[-1] if len(there) == 2 else 1
    if there not in ((rows, count), (rows,), (1,), (), (1, 1)) or not 1 <= count <= columns:
        raise MisshapenError(scale, there, f"{rows} rows are wanted")
    if zero in checkpoint:
        checkpoint.expect(zero, -(-rows * bits // 32) if packed else rows, count)
    groups = _find_groups(checkpoint, scale, order, columns, count)
    native = groups.native(bits, columns, zero in checkpoint, _scale_type(checkpoint, scale))
    kind = f"compressed-tensors int{bits} {groups.describe(columns, zero in checkpoint)}"
    weight = f"{name}.weight_packed" if packed else f"{name}.weight"
    tensors = (weight, scale, zero) if zero in checkpoint else (weight, scale)
    return Coded(name, shape, kind, native, tensors, _Compressed(checkpoint, name, bits, packed, groups))


def gptq_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int], one_less: bool) -> Matrix:
    """`<name>.qweight` of GPTQ; `one_less`: zero points are stored less one. Without any but the middle it has none."""
    rows, columns = shape
    there = checkpoint.shape(f"{name}.qweight")
    bits = next((b for b in (4, 8) if there == (columns * b // 32, rows)), None)
    if bits is None or columns * bits % 32 or rows * bits % 32:
        raise MisshapenError(f"{name}.qweight", there, f"the config says {shape}, in 4 or 8 bits")
    count = _count_groups(checkpoint, f"{name}.scales", rows, columns)
    checkpoint.expect(f"{name}.qzeros", count, rows * bits // 32)
    groups = _find_groups(checkpoint, f"{name}.scales", f"{name}.g_idx", columns, count)
    packed = checkpoint.peek(f"{name}.qzeros")
    zeros = None if packed is None else zeros_from_gptq(packed, bits, one_less)
    middle = 1 << (bits - 1)
    other = middle + 1 if one_less else middle - 1
    if zeros is not None and checkpoint.published.symmetric and (zeros == other).all():
        raise MoedgeError(
            f"{name}.qzeros holds {int(zeros.flat[0]) - one_less} throughout, which in symmetric codes means "
            f"checkpoint_format {'gptq_v2' if one_less else 'gptq'} (of AutoRound, packing_format "
            f"{'auto_round' if one_less else 'auto_round:auto_gptq'}): write that into its quantization_config."
        )
    symmetric = zeros is None or bool((zeros == middle).all())
    native = groups.native(bits, columns, not symmetric, _scale_type(checkpoint, f"{name}.scales"))
    kind = f"gptq int{bits} {groups.describe(columns, not symmetric)}"
    tensors = f"{name}.qweight", f"{name}.scales"
    return Coded(name, shape, kind, native, tensors, _Gptq(checkpoint, name, bits, one_less, symmetric, groups))


def awq_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.qweight` of AWQ's gemm version."""
    rows, columns = shape
    if rows % 8:
        raise MoedgeError(f"{name}.qweight packs eight rows a word, of {rows} by the config: correct config.json.")
    checkpoint.expect(f"{name}.qweight", columns, rows // 8)
    count = _count_groups(checkpoint, f"{name}.scales", rows, columns)
    with_zeros = f"{name}.qzeros" in checkpoint
    if with_zeros:
        checkpoint.expect(f"{name}.qzeros", count, rows // 8)
    groups = _find_groups(checkpoint, f"{name}.scales", None, columns, count)
    kind = f"awq int4 {groups.describe(columns, with_zeros)}"
    native = groups.native(4, columns, with_zeros, _scale_type(checkpoint, f"{name}.scales"))
    tensors = tuple(f"{name}.{part}" for part in ("qweight", "scales", "qzeros")[: 2 + with_zeros])
    return Coded(name, shape, kind, native, tensors, _Awq(checkpoint, name, with_zeros, groups))


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
    native = native_scheme(8, columns, columns // BLOCK, False, None, "bfloat16")  # powers of two
    grid = _Mxfp4(checkpoint, blocks, scales, expert)
    return Coded(f"{name}[{expert}]", shape, "mxfp4", native, (blocks, scales), grid)


@dataclass(frozen=True, eq=False)
class _Compressed:
    checkpoint: Checkpoint
    name: str
    bits: int
    packed: bool
    groups: _Groups

    def __call__(self, start: int, stop: int) -> Grid:
        scales, group_of, group = self._scales(start, stop), self.groups.group_of, self.groups.group
        if self.packed:
            packed = self.checkpoint.read(f"{self.name}.weight_packed", start, stop)
            return grid_from_packed(packed, scales, self._packed_zeros(start, stop), self.bits, group_of, group)
        zero = f"{self.name}.weight_zero_point"
        zeros = self.checkpoint.read(zero, start, stop) if zero in self.checkpoint else None
        weight = self.checkpoint.read(f"{self.name}.weight", start, stop)
        return grid_from_int8(weight, scales, zeros, group_of, group)

    def _scales(self, start: int, stop: int) -> F32:
        name = f"{self.name}.weight_scale"
        if prod(self.checkpoint.shape(name)) > 1:
            return self.checkpoint.read_float(name, start, stop).reshape(stop - start, -1)
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
    groups: _Groups

    def __call__(self, start: int, stop: int) -> Grid:
        every, some = slice(None), slice(start, stop)
        codes = self.checkpoint.read_part(f"{self.name}.qweight", every, some)
        scales = self.checkpoint.read_float_part(f"{self.name}.scales", every, some)
        zeros = None
        if not self.symmetric:
            words, a, b = _words(start, stop, 32 // self.bits)
            qzeros = self.checkpoint.read_part(f"{self.name}.qzeros", every, words)
            zeros = zeros_from_gptq(qzeros, self.bits, self.one_less)[a:b]
        return grid_from_gptq(codes, scales, zeros, self.bits, self.groups.group_of, self.groups.group)


@dataclass(frozen=True, eq=False)
class _Awq:
    checkpoint: Checkpoint
    name: str
    with_zeros: bool
    groups: _Groups

    def __call__(self, start: int, stop: int) -> Grid:
        every, (words, a, b) = slice(None), _words(start, stop, 8)
        codes = self.checkpoint.read_part(f"{self.name}.qweight", every, words)
        whole = slice(words.start * 8, words.stop * 8)
        scales = self.checkpoint.read_float_part(f"{self.name}.scales", every, whole)
        zeros = self.checkpoint.read_part(f"{self.name}.qzeros", every, words) if self.with_zeros else None
        return grid_from_awq(codes, scales, zeros, self.groups.group).rows(a, b)


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


def _find_groups(checkpoint: Checkpoint, scales: str, order: str | None, columns: int, count: int) -> _Groups:
    """The groups of the columns: by the g_idx `order` if there is one that says anything, else as the config states.

    MoedgeError if the config states no size for them, or none that gives `count`.
    """
    if order is not None and order in checkpoint:
        checkpoint.expect(order, columns)
        stated_order = checkpoint.peek(order)
        if stated_order is None:
            return _Groups(count)
        group_of: NDArray[np.int64] = stated_order.astype(np.int64)
        size = find_group(group_of)
        if size is not None and -(-columns // size) == count:
            return _in_order(columns, count, size)
        if not (group_of == -1).all():  # compressed-tensors' for none
            if group_of.min() < 0 or group_of.max() >= count:
                ends = f"{group_of.min()} to {group_of.max()}"
                raise MoedgeError(f"{order} names groups {ends} of {count}: they do not belong together.")
            return _Groups(count, None, group_of)
    stated = {columns if size == WHOLE_ROW else size for size in checkpoint.published.group_sizes}
    fitting = {min(size, columns) for size in stated if -(-columns // size) == count}
    if len(fitting) == 1:
        return _in_order(columns, count, fitting.pop())
    if not stated and count == 1:
        return _Groups(1)
    of = f"{scales} has {count} groups for {columns} columns"
    if not stated:
        raise MoedgeError(f"{of}, and the config states no group_size: write it into its quantization_config.")
    sizes = " and ".join(map(str, sorted(stated)))
    if fitting:
        raise MoedgeError(f"{of}, which groups of {' and of '.join(map(str, sorted(fitting)))} give: take another.")
    raise MoedgeError(f"{of}, where the config states a group_size of {sizes}: they do not belong together.")


def _scale_type(checkpoint: Checkpoint, name: str) -> ScaleType:
    """What holds the scales of that name as they are."""
    return _SCALE_TYPES.get(checkpoint.dtype(name), "float32")


def _in_order(columns: int, count: int, size: int) -> _Groups:
    return _Groups(count, size if columns % size else None)


def _count_groups(checkpoint: Checkpoint, name: str, rows: int, columns: int) -> int:
    """The number of groups of scales [G, rows]."""
    there = checkpoint.shape(name)
    if len(there) != 2 or there[1] != rows or not 1 <= there[0] <= columns:
        raise MisshapenError(name, there, f"{rows} rows are wanted")
    return there[0]


def _words(start: int, stop: int, a_word: int) -> tuple[slice, int, int]:
    """The words that hold rows start:stop, and where among their rows these begin and end."""
    first = start // a_word
    return slice(first, -(-stop // a_word)), start - first * a_word, stop - first * a_word
