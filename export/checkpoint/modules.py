"""A matrix of the checkpoint, in whatever format it is published there: the tensors that are present decide.

Plain numbers and matrices within a 3-D tensor are read here, the rest in codes.py, float_codes.py and floats.py.
"""

from dataclasses import dataclass

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.codes import awq_matrix, gptq_matrix, int8_matrix, packed_matrix
from moedge.export.checkpoint.errors import MisshapenError, TensorError
from moedge.export.checkpoint.float_codes import mxfp4_matrix, mxfp4_plane, nvfp4_matrix
from moedge.export.checkpoint.floats import fp8_matrix
from moedge.export.checkpoint.folder import FLOATS, Checkpoint
from moedge.export.checkpoint.matrix import Matrix, Rounded
from moedge.quant.blocks import F32


def open_matrix(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    """The matrix of module `name`; MoedgeError if what is there is not of the shape [rows, columns] that is wanted."""
    try:
        return _open(checkpoint, name, shape)
    except TensorError as error:
        checkpoint.report(name, error, shape)
        return stand_in(name, shape)


def _open(checkpoint: Checkpoint, name: str, shape: tuple[int, int]) -> Matrix:
    if f"{name}.weight_packed" in checkpoint:
        if checkpoint.dtype(f"{name}.weight_packed") != "U8":
            return packed_matrix(checkpoint, name, shape)
        has_factor = f"{name}.weight_global_scale" in checkpoint
        return (nvfp4_matrix if has_factor else mxfp4_matrix)(checkpoint, name, shape)
    if f"{name}.qweight" in checkpoint:
        published = checkpoint.published
        if published.method == "gptq":
            return gptq_matrix(checkpoint, name, shape, published.gptq_one_less)
        if published.method == "awq":
            return awq_matrix(checkpoint, name, shape)
        raise MoedgeError(f"{name}.qweight is there, but the config says neither gptq nor awq: complete config.json.")
    weight = f"{name}.weight"
    if checkpoint.dtype(weight) == "U8" and f"{name}.weight_scale_2" in checkpoint:
        return nvfp4_matrix(checkpoint, name, shape)
    if checkpoint.dtype(weight) == "I8":
        return int8_matrix(checkpoint, name, shape)
    if checkpoint.dtype(weight) == "F8_E4M3":
        return fp8_matrix(checkpoint, name, shape, checkpoint.published.fp8_block)
    checkpoint.expect(weight, *shape)
    rows = _Rows(checkpoint, weight)
    return Rounded(name, shape, checkpoint.dtype(weight).lower(), False, (weight,), rows)


def is_stored(checkpoint: Checkpoint, name: str) -> bool:
    """Whether module `name` has a matrix, in any format."""
    return any(f"{name}.{part}" in checkpoint for part in ("weight", "weight_packed", "qweight"))


def open_expert(
    checkpoint: Checkpoint, name: str, expert: int, shape: tuple[int, int], transposed: bool = False
) -> Matrix:
    """The matrix [rows, columns] of one expert in the 3-D tensor `name`, [E, columns, rows] where it is `transposed`.

    In MXFP4 two tensors stand for it, never transposed: `name`_blocks [E, rows, columns / 32, 16] and `name`_scales.
    """
    try:
        return _open_plane(checkpoint, name, expert, shape, transposed)
    except TensorError as error:
        checkpoint.report(name, error, shape)
        return stand_in(name, shape)


def open_planes(
    checkpoint: Checkpoint, name: str, count: int, shape: tuple[int, int], transposed: bool = False
) -> list[Matrix]:
    """All `count` matrices of a 3-D tensor of plain numbers; see `open_expert`."""
    try:
        checkpoint.expect(name, count, *(reversed(shape) if transposed else shape))
    except TensorError as error:
        checkpoint.report(name, error, shape)
        return [stand_in(name, shape)] * count
    return [open_expert(checkpoint, name, i, shape, transposed) for i in range(count)]


def _open_plane(checkpoint: Checkpoint, name: str, expert: int, shape: tuple[int, int], transposed: bool) -> Matrix:
    if f"{name}_blocks" in checkpoint:
        return mxfp4_plane(checkpoint, name, expert, shape)
    whole = checkpoint.shape(name)
    if len(whole) != 3 or expert >= whole[0]:
        raise MisshapenError(name, whole, f"expert {expert} is wanted, of {shape}")
    checkpoint.expect(name, whole[0], *(reversed(shape) if transposed else shape))
    if checkpoint.dtype(name) not in FLOATS:
        raise MoedgeError(f"{name} is stored as {checkpoint.dtype(name)}, which moedge does not read there: take bf16.")
    rows = _PlaneRows(checkpoint, name, expert, transposed)
    return Rounded(f"{name}[{expert}]", shape, checkpoint.dtype(name).lower(), False, (name,), rows)


def stand_in(name: str, shape: tuple[int, int]) -> Matrix:
    """In the place of a matrix, where a dry run goes on without it."""

    def read(_: int, __: int) -> F32:
        raise AssertionError(f"{name} was never opened")

    return Rounded(name, shape, "", False, (), read)


@dataclass(frozen=True)
class _Rows:
    checkpoint: Checkpoint
    name: str

    def __call__(self, start: int, stop: int) -> F32:
        return self.checkpoint.read_float(self.name, start, stop)


@dataclass(frozen=True)
class _PlaneRows:
    checkpoint: Checkpoint
    name: str
    expert: int
    transposed: bool

    def __call__(self, start: int, stop: int) -> F32:
        expert, some = slice(self.expert, self.expert + 1), slice(start, stop)
        part = (expert, slice(None), some) if self.transposed else (expert, some)
        matrix: F32 = self.checkpoint.read_float_part(self.name, *part)[0]
        return matrix.T if self.transposed else matrix
