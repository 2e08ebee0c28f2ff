"""Whether an export fits before anything large is fetched: what the bundle will take, and where there is room for it.

Sizes are those of a dry run, which knows names, shapes and dtypes; disks are asked. What a finished bundle really takes
is in its manifest.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import EMBEDDING, ExpertPlan, TensorGroup


@dataclass(frozen=True)
class Estimate:
    """Bytes of the bundle on disk, and of its weights once they are loaded, packed where ONNX Runtime does that."""

    disk: int
    memory: int


@dataclass(frozen=True)
class Space:
    """Bytes that are wanted in the folder `place`, which need not exist yet, and what for."""

    place: Path
    nbytes: int
    purpose: str


def estimate(groups: Sequence[TensorGroup], tied: bool, plan: ExpertPlan) -> Estimate:
    """What these groups of tensors come to; a `tied` embedding is multiplied as a matrix too, and so held twice.

    For each block of codes ONNX Runtime keeps a second fp32 number, and none for its zero point. Scales that it has to
    cast to fp32 it keeps once more. Four-bit floats it reads from the file as they lie; moedge's kernels read all so.
    """
    if plan == "native":
        nbytes = sum(group.bytes for group in groups)
        return Estimate(nbytes, nbytes)
    disk = memory = 0
    for group in groups:
        packed = group.bytes
        if group.block and not group.read_as_it_lies:
            packed = group.parameters * (group.kernel_bits + 64 // group.block) // 8
        disk += group.bytes
        memory += packed if group.name != EMBEDDING else group.table_bytes + (packed if tied and group.block else 0)
        memory += group.cast_bytes
    return Estimate(disk, memory)


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
            f"loaded, the weights take about {_size(size.memory)}, and this machine has {_size(usable)}: "
            "the bundle is for a larger one"
        )
