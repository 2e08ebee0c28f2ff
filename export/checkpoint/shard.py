"""One safetensors file: its header, and its tensors' bytes read into fresh arrays.

The library checks the file when it is opened. Bytes are then read with `pread`, not through its memory map: pages of a
map count as resident, and its slices are copied twice.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.foreign import refuse_stand_in

# How a header spells dtypes, and what numpy reads them as: 8-bit floats as their bytes.
_DTYPES: dict[str, Any] = {
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(np.uint8),
    "F8_E8M0": np.dtype(np.uint8),
}


class Header(NamedTuple):
    """What a file says of a tensor: shape, dtype as safetensors spells it, and where its bytes are in the file."""

    shape: tuple[int, ...]
    dtype: str
    offset: int
    nbytes: int


class Shard:
    """An open file; MoedgeError if it is missing, truncated or broken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with safe_open(path, "numpy"):
                pass
            self._descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise MoedgeError(f"{path} is missing: download it again.") from None
        except (SafetensorError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's: no permission, too many open files
            refuse_stand_in(path)
            size = path.stat().st_size
            raise MoedgeError(f"{path} ({size} bytes) is truncated or broken ({error}): download it again.") from None
        try:
            self._learn()
        except BaseException:
            self.close()
            raise

    def _learn(self) -> None:
        length = int.from_bytes(os.pread(self._descriptor, 8, 0), "little")
        text = os.pread(self._descriptor, length, 8)
        status = os.fstat(self._descriptor)
        self.nbytes = status.st_size
        # Bytes, time of change in ns, hash of the header: tells whether it is still the file that an earlier run read.
        self.identity = f"{self.nbytes} {status.st_mtime_ns} {hashlib.sha256(text).hexdigest()}"
        self.headers = {}
        for name, entry in json.loads(text).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                self.headers[name] = Header(tuple(entry["shape"]), entry["dtype"], 8 + length + begin, end - begin)

    def read(self, name: str, *part: slice) -> NDArray[Any]:
        """What slices of a tensor's leading axes cut out, as a fresh array; 8-bit floats come as their bytes."""
        header = self.headers[name]
        if header.dtype not in _DTYPES:
            raise MoedgeError(
                f"{name} is stored as {header.dtype}, which moedge does not read: take a checkpoint in bf16."
            )
        return self._cut(_DTYPES[header.dtype], header.offset, header.shape, part)

    def _cut(self, dtype: Any, offset: int, shape: tuple[int, ...], part: tuple[slice, ...]) -> NDArray[Any]:
        if part:
            start, stop, _ = part[0].indices(shape[0])
            row = dtype.itemsize * math.prod(shape[1:])
            if len(part) > 1 and stop == start + 1:
                return self._cut(dtype, offset + start * row, shape[1:], part[1:])[None]
            if len(part) > 1:  # many short runs: cheaper to copy out of a map, of this tensor and gone at once
                return np.array(np.memmap(self._path, dtype, "r", offset, shape)[part])
            offset, shape = offset + start * row, (max(stop - start, 0), *shape[1:])
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        while view:
            count = os.preadv(self._descriptor, [view], offset)
            if count == 0:
                raise MoedgeError(f"{self._path} has become shorter while it was read: download it again.")
            view, offset = view[count:], offset + count
        return array

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
