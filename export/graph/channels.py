"""Channels on their way from what writes them to the matrices that read them, and factors that even out their sizes.

Dividing a writer's channel by a number and multiplying every reader's column by it changes nothing but how well the
reader's blocks can be rounded (Lin et al. 2023). A writer is named by its norm, its projection or, within an expert,
by the down-projection that reads it. Which factors are good is for a calibration; here they are applied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.checkpoint.views import scale_matrix
from moedge.quant.blocks import F32

WHOLE = slice(None)


@dataclass(frozen=True)
class Reader:
    """A matrix that reads a writer's channels, where key heads serve several query heads each of them `copies` times.

    Its columns are then those of head 0 `copies` times, those of head 1, …, each `width` long.
    """

    matrix: Matrix
    copies: int = 1
    width: int = 1

    def spread(self, channels: F32) -> F32:
        """A value a channel of the writer to one a column of the matrix."""
        return np.repeat(channels.reshape(-1, self.width), self.copies, axis=0).reshape(-1)

    def gather(self, columns: F32) -> F32:
        """A value a column of the matrix to the mean of each channel's."""
        means: F32 = columns.reshape(-1, self.copies, self.width).mean(1).reshape(-1)
        return means


@dataclass
class Channels:
    """The factors by writer, [channels] each; a writer without one is as the checkpoint has it.

    `readers` is what was found to read each writer, as the checkpoint has it, in the layers that were built.
    """

    factors: Mapping[str, F32] = field(default_factory=dict)
    readers: dict[str, list[Reader]] = field(default_factory=dict)

    def read(self, writer: str, matrix: Matrix, copies: int = 1, width: int = 1) -> Matrix:
        """A matrix that reads what the writer gives; see `Reader`."""
        reader = Reader(matrix, copies, width)
        self.readers.setdefault(writer, []).append(reader)
        factor = self.factors.get(writer)
        return matrix if factor is None else scale_matrix(matrix, None, reader.spread(factor))

    def write(self, writer: str, matrix: Matrix, rows: slice | NDArray[np.int64] = WHOLE) -> Matrix:
        """A matrix of whose rows those are the writer's channels."""
        factor = self.factors.get(writer)
        if factor is None:
            return matrix
        by_row = np.ones(matrix.shape[0], np.float32)
        by_row[rows] /= factor
        return scale_matrix(matrix, by_row, None)

    def divide(self, writer: str, values: F32, some: slice = WHOLE) -> F32:
        """A norm's weights, or biases, of which those along the last axis are the writer's channels."""
        factor = self.factors.get(writer)
        if factor is None:
            return values
        divided = values.copy()
        divided[..., some] /= factor
        return divided
