"""Whether an export fits before anything large is fetched: what the bundle will take, and where there is room for it.

Sizes are estimated from names, shapes and dtypes alone; disks are asked. What a finished bundle really takes is in its
manifest.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint, find_unmatched
from moedge.export.model.config import ModelConfig
from moedge.quant.scheme import Scheme

_FLOATS = ("F64", "F32", "F16", "BF16")
_SCALES = ("scale", "scales", "scale_inv")
# Weights in one element of a published format that is not floating point: eight or two codes packed, or one.
_PACKED = {"I32": 8, "U8": 2}


@dataclass(frozen=True)
class Estimate:
    """Bytes of the bundle on disk, and of its weights once ONNX Runtime has packed them."""

    disk: int
    memory: int


@dataclass(frozen=True)
class Space:
    """Bytes that are wanted in the folder `place`, which need not exist yet, and what for."""

    place: Path
    nbytes: int
    purpose: str


def estimate(checkpoint: Checkpoint, model: ModelConfig, scheme: Scheme) -> Estimate:
    """What the tensors come to in this scheme; published codes keep their bits, vectors become fp32."""
    dtypes = checkpoint.dtypes()
    disk = memory = 0.0
    for name in find_unmatched(dtypes, model.names.ignored):
        on_disk, packed = _tensor_bytes(name, dtypes[name], checkpoint.shape(name), scheme)
        disk += on_disk
        memory += packed
    if model.tie_word_embeddings and scheme.quantized:  # multiplied as a matrix too, hence held twice
        memory += model.vocab_size * model.hidden_size * (scheme.bits / 8 + 8 / scheme.block)
    return Estimate(round(disk), round(memory))


def _tensor_bytes(name: str, dtype: str, shape: tuple[int, ...], scheme: Scheme) -> tuple[float, float]:
    """Bytes on disk and in memory of one tensor: ONNX Runtime keeps a second fp32 number for each scale."""
    count = prod(shape)
    if name.endswith(_SCALES):
        return (4 * count, 8 * count) if scheme.quantized else (0, 0)
    if dtype not in _FLOATS and not dtype.startswith("F8"):
        if not scheme.quantized:
            return 4 * count * _PACKED.get(dtype, 1), 4 * count * _PACKED.get(dtype, 1)
        width = {"I64": 8, "I32": 4, "I8": 1}.get(dtype, 2)  # of U8 mxfp4's pairs of codes, which become int8
        return width * count, width * count
    if len(shape) < 2 or not scheme.quantized:
        return 4 * count, 4 * count
    zero_points = count / scheme.block * scheme.bits / 8 if scheme.zero_point else 0
    codes = count * scheme.bits / 8
    return codes + count / scheme.block * 4 + zero_points, codes + count / scheme.block * 8


def refuse_too_large(name: str, *spaces: Space) -> None:
    """Raise MoedgeError if a disk has less room than is wanted of it, with both numbers."""
    placed = [(space, _find_existing(space.place)) for space in spaces]
    for _, place in placed:
        wanted = sum(space.nbytes for space, other in placed if _disk(other) == _disk(place))
        free = shutil.disk_usage(place).free
        if wanted > free:
            purposes = " and ".join(f"{_size(space.nbytes)} {space.purpose}" for space in spaces)
            raise MoedgeError(
                f"{name} does not fit: it takes {purposes}, but {place} has {_size(free)} free where {_size(wanted)} "
                "are to go: free some space, take a smaller --scheme, or set HF_HOME to a larger disk."
            )


def _disk(folder: Path) -> int:
    return folder.stat().st_dev


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _find_existing(place: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def memory_note(size: Estimate, usable: int) -> Iterable[str]:
    """A sentence if this machine could not hold the weights."""
    if size.memory > usable:
        yield (
            f"packed, the weights take about {_size(size.memory)}, and this machine has {_size(usable)}: "
            "the bundle is for a larger one"
        )
