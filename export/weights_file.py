"""`weights.bin`: one region a tensor, aligned to 64 KiB, written while the graph is built; nothing is held in memory.

It knows offsets and bytes; what a region means is the graph's business.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.origins import Origins
from moedge.runtime.manifest import WEIGHTS_NAME, TensorGroup

ALIGNMENT = 64 * 1024


@dataclass(frozen=True)
class Region:
    """Room for one tensor in the file; `tensor` is what the graph refers to."""

    tensor: ir.ExternalTensor
    file: "WeightsFile"
    offset: int
    nbytes: int

    def write(self, array: NDArray[Any], at: int = 0) -> None:
        """Put the array's bytes `at` bytes into the region."""
        data = np.ascontiguousarray(array)
        if at + data.nbytes > self.nbytes:
            raise AssertionError(f"{self.tensor.name}: {at} + {data.nbytes} bytes in a region of {self.nbytes}")
        self.file.put(data, self.offset + at)


class WeightsFile:
    """The file while it grows, and the account of what its tensors cost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = 0
        self._groups: dict[tuple[str, str], list[int]] = {}
        self.origins = Origins()
        self._descriptor = os.open(folder / WEIGHTS_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def region(self, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> Region:
        """Reserve room for a tensor; four-bit dtypes take half a byte a value."""
        nbytes = (int(np.prod(shape, dtype=np.int64)) * dtype.bitwidth + 7) // 8
        offset = -(-self._end // ALIGNMENT) * ALIGNMENT
        self._end = offset + nbytes
        tensor = ir.ExternalTensor(
            WEIGHTS_NAME, offset, nbytes, dtype, shape=ir.Shape(shape), name=name, base_dir=self._folder
        )
        return Region(tensor, self, offset, nbytes)

    def alias(self, region: Region, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.ExternalTensor:
        """A second tensor over the same bytes."""
        return ir.ExternalTensor(
            WEIGHTS_NAME, region.offset, region.nbytes, dtype, shape=ir.Shape(shape), name=name, base_dir=self._folder
        )

    def put(self, data: NDArray[Any], offset: int) -> None:
        """Write all bytes at an offset of the file."""
        view = data.reshape(-1).view(np.uint8).data
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def account(self, group: str, scheme: str, parameters: int, nbytes: int) -> None:
        """Add weights to a group of the manifest's table."""
        entry = self._groups.setdefault((group, scheme), [0, 0])
        entry[0] += parameters
        entry[1] += nbytes

    def groups(self) -> tuple[TensorGroup, ...]:
        """The table so far."""
        return tuple(TensorGroup(name, scheme, p, b) for (name, scheme), (p, b) in self._groups.items())

    def close(self) -> None:
        """Make the bytes durable."""
        os.ftruncate(self._descriptor, self._end)
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> "WeightsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            os.close(self._descriptor)
