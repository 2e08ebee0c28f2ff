"""Matrices published as four-bit floats: which tensors hold them, and which parts of these a few rows need.

The layouts stand as formulas in quant/formats/.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.errors import MisshapenError
from moedge.export.checkpoint.folder import POWERS, Checkpoint
from moedge.export.checkpoint.matrix import Coded, Matrix
from moedge.quant.formats.mxfp4 import grid_from_mxfp4
from moedge.quant.formats.nvfp4 import grid_from_nvfp4
from moedge.quant.grids import FloatGrid
from moedge.quant.scheme import MXFP4, NVFP4

_BLOCK = MXFP4.block


def mxfp4_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """`<name>.weight_packed` of compressed-tensors, as bytes, with exponents in `weight_scale`."""
    packed, scale, (rows, columns) = f"{name}.weight_packed", f"{name}.weight_scale", shape
    if columns % _BLOCK:
        raise MoedgeError(f"{packed} holds MXFP4, whose blocks of {_BLOCK} do not divide {columns}: take another.")
    checkpoint.expect(packed, rows, columns // 2)
    checkpoint.expect(scale, rows, columns // _BLOCK)
    if checkpoint.dtype(scale) not in POWERS:
        raise MoedgeError(f"{scale} is stored as {checkpoint.dtype(scale)} where MXFP4 has bytes: take another.")
    grid = _Mxfp4(checkpoint, packed, scale)
    return Coded(name, shape, "compressed-tensors mxfp4", MXFP4, (packed, scale), grid)


def mxfp4_plane(checkpoint: Checkpoint, name: str, expert: int, shape: tuple[int, int]) -> Matrix:
    """An expert of `<name>_blocks` [E, rows, columns / 32, 16] and `<name>_scales` [E, rows, columns / 32]."""
    rows, columns = shape
    blocks, scales = f"{name}_blocks", f"{name}_scales"
    experts = next(iter(checkpoint.shape(blocks)), 0)
    checkpoint.expect(blocks, experts, rows, columns // _BLOCK, _BLOCK // 2)
    checkpoint.expect(scales, experts, rows, columns // _BLOCK)
    if columns % _BLOCK or expert >= experts:
        raise MisshapenError(
            blocks, checkpoint.shape(blocks), f"expert {expert} of {shape} is wanted, in blocks of {_BLOCK}"
        )
    grid = _Mxfp4(checkpoint, blocks, scales, expert)
    return Coded(f"{name}[{expert}]", shape, "mxfp4", MXFP4, (blocks, scales), grid)


def nvfp4_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """ModelOpt's `<name>.weight` in bytes, or `<name>.weight_packed` of compressed-tensors, with a factor for all."""
    rows, columns = shape
    compressed = f"{name}.weight_packed" in checkpoint
    packed, factor = f"{name}.weight", f"{name}.weight_scale_2"
    if compressed:
        packed, factor = f"{name}.weight_packed", f"{name}.weight_global_scale"
    scale = f"{name}.weight_scale"
    if columns % NVFP4.block:
        raise MoedgeError(f"{packed} holds NVFP4, whose blocks of {NVFP4.block} do not divide {columns}: take another.")
    checkpoint.expect(packed, rows, columns // 2)
    checkpoint.expect(scale, rows, columns // NVFP4.block)
    if checkpoint.dtype(scale) != "F8_E4M3":
        raise MoedgeError(f"{scale} is stored as {checkpoint.dtype(scale)} where NVFP4 has F8_E4M3: take another.")
    checkpoint.require_float(factor)
    if prod(checkpoint.shape(factor)) != 1:
        raise MisshapenError(factor, checkpoint.shape(factor), "one value for all of the matrix is wanted")
    stated = checkpoint.peek(factor)
    value = 1.0 if stated is None else _read_factor(factor, np.float32(stated.reshape(())), compressed)
    kind = "compressed-tensors nvfp4" if compressed else "nvfp4"
    grid = _Nvfp4(checkpoint, packed, scale, value)
    return Coded(name, shape, kind, replace(NVFP4, factor=value), (packed, scale, factor), grid)


def _read_factor(name: str, stated: np.float32, inverse: bool) -> float:
    if not np.isfinite(stated) or stated <= 0:
        raise MoedgeError(f"{name} is {stated}, which no weight can be multiplied by: take another checkpoint.")
    return float(np.float32(1) / stated if inverse else stated)


@dataclass(frozen=True)
class _Nvfp4:
    checkpoint: Checkpoint
    packed: str
    scales: str
    factor: float

    def __call__(self, start: int, stop: int) -> FloatGrid:
        packed, scales = (self.checkpoint.read(name, start, stop) for name in (self.packed, self.scales))
        return grid_from_nvfp4(packed, scales, self.factor)


@dataclass(frozen=True)
class _Mxfp4:
    checkpoint: Checkpoint
    blocks: str
    scales: str
    expert: int | None = None  # of a tensor of many

    def __call__(self, start: int, stop: int) -> FloatGrid:
        some = slice(start, stop)
        part = (some,) if self.expert is None else (slice(self.expert, self.expert + 1), some)
        packed, scales = (self.checkpoint.read_part(name, *part) for name in (self.blocks, self.scales))
        return grid_from_mxfp4(packed.reshape(stop - start, -1), scales.reshape(stop - start, -1))
