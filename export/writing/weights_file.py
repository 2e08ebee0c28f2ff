"""`weights.bin`: one region a tensor, written while the graph is built; nothing is held in memory.

Large regions begin where a page does on any machine, so that each can be mapped or read apart; in a small model that
would be a tenth of the file, so that small ones follow one another.

It knows offsets and bytes, and which of them an earlier run has left; what a region means is the graph's business.
"""

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.writing.account import Account
from moedge.export.writing.hasher import Hasher
from moedge.export.writing.journal import ANEW, Journal, UnfinishedError
from moedge.runtime.manifest import WEIGHTS_NAME

ALIGNMENT = 64 * 1024
SMALL = 64 * ALIGNMENT  # bytes of a region, with SMALL_ALIGNMENT
SMALL_ALIGNMENT = 64
_MOST_PENDING = 4  # writes, each of at most some tens of MB


@dataclass(frozen=True)
class Region:
    """Room for one tensor in the file; `tensor` is what the graph refers to."""

    tensor: ir.ExternalTensor
    file: "WeightsFile"
    offset: int
    nbytes: int

    @property
    def kept(self) -> bool:
        """Whether an earlier run has written it: then nothing need be read for it, and nothing is written."""
        return self.offset + self.nbytes <= self.file.kept_bytes

    def write(self, array: NDArray[Any], at: int = 0) -> None:
        """Put the array's bytes `at` bytes into the region, unless it is kept."""
        if self.kept:
            return
        data = np.ascontiguousarray(array)
        if at + data.nbytes > self.nbytes:
            raise AssertionError(f"{self.tensor.name}: {at} + {data.nbytes} bytes in a region of {self.nbytes}")
        self.file.put(data, self.offset + at)


@dataclass
class _Open:
    """A region that is being written, and how much of it: from its beginning without a gap, and in all."""

    begin: int
    end: int
    contiguous: int = 0
    written: int = 0


class WeightsFile:
    """The file while it grows, and the account of what its tensors cost.

    With marks in the journal it goes on after the last of them; UnfinishedError if what is there is not what they say.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self.sha256 = ""  # known once it is closed
        self._end = 0
        self.account = Account()
        self._open: deque[_Open] = deque()
        self._pending: deque[tuple[int, int, Future[None]]] = deque()  # offset, bytes, when they are written
        self._writer = ThreadPoolExecutor(1, "weights")
        self.kept_bytes = journal.marks[-1].end if journal.marks else 0
        self._descriptor = os.open(folder / WEIGHTS_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        self._hasher = Hasher(self._descriptor, journal)
        try:
            if journal.marks and not self._hasher.check(self.kept_bytes, journal.marks[-1].sha256):
                raise UnfinishedError(
                    f"{folder / WEIGHTS_NAME} is not what the interrupted export has written: {ANEW}."
                )
            os.ftruncate(self._descriptor, self.kept_bytes)
            self._hasher.start()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def nbytes(self) -> int:
        """Where the last region ends so far."""
        return self._end

    def region(self, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> Region:
        """Reserve room for a tensor; four-bit dtypes take half a byte a value."""
        nbytes = (int(np.prod(shape, dtype=np.int64)) * dtype.bitwidth + 7) // 8
        if not nbytes:
            raise AssertionError(f"{name}: a tensor {list(shape)} has no bytes to store")
        step = SMALL_ALIGNMENT if nbytes < SMALL else ALIGNMENT
        offset = -(-self._end // step) * step
        self._end = offset + nbytes
        if self._end > self.kept_bytes:
            self._open.append(_Open(offset, self._end))
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
        """Write all bytes at an offset of the file, in a thread of its own: what comes next is read meanwhile."""
        while len(self._pending) >= _MOST_PENDING:
            self._settle()
        self._pending.append((offset, data.nbytes, self._writer.submit(write_all, self._descriptor, data, offset)))

    def _settle(self) -> None:
        """Wait for the oldest write, and tell the hasher how far the file is final now."""
        offset, nbytes, written = self._pending.popleft()
        written.result()
        region = next(r for r in self._open if r.begin <= offset < r.end)
        region.written += nbytes
        if offset == region.begin + region.contiguous:
            region.contiguous += nbytes
        final = 0  # what lies between two regions is there only once the second has been written to
        while self._open and self._open[0].written == self._open[0].end - self._open[0].begin:
            final = self._open.popleft().end
        if self._open and self._open[0].contiguous:
            final = self._open[0].begin + self._open[0].contiguous
        self._hasher.advance(final)

    def _settle_all(self) -> None:
        while self._pending:
            self._settle()
        if self._open:
            raise AssertionError(f"a tensor of {self._open[0].end - self._open[0].begin} bytes was not written whole")
        os.ftruncate(self._descriptor, max(self._end, self.kept_bytes))

    def finish_stage(self, name: str, tensors: Sequence[str]) -> None:
        """All regions so far are complete; a run that is killed after it goes on from here."""
        self._settle_all()
        if self._end > self.kept_bytes:
            self._hasher.finish_stage(name, self._end, list(tensors))

    def close(self) -> None:
        """Make the bytes durable and learn their sha256."""
        try:
            self._settle_all()
            self._hasher.advance(self._end)
            os.fsync(self._descriptor)
            self.sha256 = self._hasher.end()
        except BaseException:
            self._give_up()
            raise
        self._writer.shutdown()
        os.close(self._descriptor)

    def _give_up(self) -> None:
        self._writer.shutdown(cancel_futures=True)
        with contextlib.suppress(Exception):  # what was finished is journalled; the first failure is the one to tell
            self._hasher.end()
        os.close(self._descriptor)

    def __enter__(self) -> "WeightsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._give_up()


def write_all(descriptor: int, data: NDArray[Any], offset: int) -> None:
    """Write an array's bytes at an offset of a file."""
    view = data.reshape(-1).view(np.uint8).data
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
