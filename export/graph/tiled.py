"""A matrix of the checkpoint becomes tile rows of the bundle, for our own kernels; quant/tiles.py has their layout."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from moedge.export.checkpoint.matrix import Matrix, row_chunks
from moedge.export.graph.builder import Attributes, Builder
from moedge.export.graph.storing import suit_scheme
from moedge.export.writing.weights_file import Region
from moedge.quant.blocks import U8
from moedge.quant.rounding import Rounding
from moedge.quant.scheme import Scheme
from moedge.quant.tiles import LAYOUT, ROWS, count_tiles, tile, tile_bytes, tile_pairs
from moedge.runtime.manifest import GroupName


@dataclass(frozen=True)
class StoredTiles:
    """Tile rows [tile rows, bytes] of a matrix, or [experts, tile rows, bytes]; `shape` is that of one matrix.

    `paired`: rows gate0, up0, gate1, … become tile rows of the gate and of up in turn.
    """

    region: Region
    scheme: Scheme
    shape: tuple[int, int]
    paired: bool = False

    def write(self, builder: Builder, rounding: Rounding, matrices: Sequence[Matrix]) -> None:
        """Put matrices at their places, one after the other and a few rows at a time, unless an earlier run has."""
        if self.region.kept:
            return
        at = 0
        for matrix in matrices:
            for tiles in self._tile(builder, rounding, matrix):
                self.region.write(tiles, at)
                at += tiles.nbytes

    def _tile(self, builder: Builder, rounding: Rounding, matrix: Matrix) -> Iterator[U8]:
        scheme, (make, rows) = suit_scheme(self.scheme, matrix), (tile, ROWS)
        if self.paired:
            make, rows = tile_pairs, 2 * ROWS
        for start, stop in row_chunks(matrix, rows):
            codes = matrix.codes(scheme, rounding, start, stop)
            builder.weights.account.note_scales(self.region.tensor.name or "", codes.scales, scheme)
            yield make(codes, scheme)

    @property
    def format(self) -> Attributes:
        """What an operator is to know of the bytes."""
        scheme = self.scheme
        return {
            "bits": scheme.bits,
            "block": scheme.block,
            "zero_point": int(scheme.zero_point),
            "scales": scheme.scales,
            "numbers": scheme.numbers,
            "layout": LAYOUT,
        }


def store_tiles(
    builder: Builder,
    name: str,
    matrices: Sequence[Matrix],
    scheme: Scheme,
    rounding: Rounding,
    group: GroupName,
    stacked: bool = False,
    paired: bool = False,
) -> StoredTiles:
    """Write a matrix, or matrices of one shape `stacked` as experts, into the weights file."""
    rows, columns = matrices[0].shape
    experts = (len(matrices),) if stacked else ()
    count = 2 * count_tiles(rows // 2) if paired else count_tiles(rows)
    region = builder.weights.region(f"{name}.tiles", ir.DataType.UINT8, (*experts, count, tile_bytes(scheme, columns)))
    builder.weights.account.add(group, scheme, len(matrices) * rows * columns, region.nbytes, matrices)
    stored = StoredTiles(region, scheme, (rows, columns), paired)
    stored.write(builder, rounding, matrices)
    return stored
