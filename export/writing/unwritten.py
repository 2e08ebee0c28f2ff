"""The weights file of a dry run: room for every tensor, as in a file that an earlier run has written whole."""

import sys
from collections import deque
from pathlib import Path

from moedge.export.writing.account import Account
from moedge.export.writing.weights_file import WeightsFile


class UnwrittenFile(WeightsFile):
    """No file: every region counts as kept, so that nothing is read for it and nothing written."""

    def __init__(self) -> None:
        self._folder = Path()
        self._end = 0
        self._open = deque()
        self.kept_bytes = sys.maxsize
        self.account = Account()
