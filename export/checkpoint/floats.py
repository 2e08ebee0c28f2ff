"""Matrices published as 8-bit floats with scales of their own; quant/formats/fp8.py has the formula."""

from dataclasses import dataclass
from math import prod

from moedge.export.checkpoint.errors import MisshapenError
from moedge.export.checkpoint.folder import FLOATS, Checkpoint
from moedge.export.checkpoint.matrix import Matrix, Rounded
from moedge.quant.blocks import F32
from moedge.quant.formats.fp8 import dequantize_fp8, e8m0


def fp8_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int], block: tuple[int, int] | None) -> Matrix:
    """`<name>.weight` in E4M3 with `weight_scale_inv` or `weight_scale`: one a block, one a row, or one for all.

    Those of blocks may have the shape [rows of blocks, 1, columns of blocks, 1], as ModelOpt writes them.

    MisshapenError if the scales are none of these.
    """
    checkpoint.expect(f"{name}.weight", *shape)
    rows, columns = shape
    scale = next(s for s in (f"{name}.weight_scale_inv", f"{name}.weight_scale") if s in checkpoint)
    there = checkpoint.shape(scale)
    if len(there) == 4 and there[1::2] == (1, 1):
        there = there[::2]
    if block is not None and there == (-(-rows // block[0]), -(-columns // block[1])):
        label = f"fp8 in blocks of {block[0]} x {block[1]}"
    elif there in ((rows, 1), (rows,)):
        block, label = (1, columns), "fp8, a scale a row"
    elif there in ((), (1,)) or (there == (1, 1) and block is None):
        block, label = (rows, columns), "fp8, one scale"
    else:
        of = f"of {block}, as the config states" if block else "whose size the config would have to state"
        raise MisshapenError(scale, there, f"one a row of {shape} or one a block {of} is wanted")
    rows_of = _Fp8Rows(checkpoint, f"{name}.weight", scale, block)
    return Rounded(name, shape, label, True, (f"{name}.weight", scale), rows_of)


@dataclass(frozen=True)
class _Fp8Rows:
    checkpoint: Checkpoint
    weight: str
    scale: str
    block: tuple[int, int]

    def __call__(self, start: int, stop: int) -> F32:
        values = self.checkpoint.read(self.weight, start, stop)
        first, last = start // self.block[0], -(-stop // self.block[0])
        if prod(self.checkpoint.shape(self.scale)) == 1:
            scales = self._scales().reshape(1, 1)
        else:
            scales = self._scales(slice(first, last)).reshape(last - first, -1)
        return dequantize_fp8(values, scales, start, self.block)

    def _scales(self, *part: slice) -> F32:
        if self.checkpoint.dtype(self.scale) in FLOATS:
            return self.checkpoint.read_float_part(self.scale, *part)
        return e8m0(self.checkpoint.read_part(self.scale, *part))
