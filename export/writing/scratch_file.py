"""A weights file that is read once and thrown away: no journal, no hash, and nothing is made durable."""

import os
from collections import deque
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from moedge.export.writing.account import Account
from moedge.export.writing.weights_file import WeightsFile, write_all
from moedge.runtime.manifest import WEIGHTS_NAME


class ScratchFile(WeightsFile):
    """The weights of a graph that this process runs itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = 0
        self._open = deque()
        self.kept_bytes = 0
        self.account = Account()
        self._descriptor = os.open(folder / WEIGHTS_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def put(self, data: NDArray[np.generic], offset: int) -> None:
        """Write all bytes at an offset of the file, at once."""
        write_all(self._descriptor, data, offset)

    def close(self) -> None:
        """Let go of the file, which stays as long as its folder."""
        os.ftruncate(self._descriptor, self._end)
        os.close(self._descriptor)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()
