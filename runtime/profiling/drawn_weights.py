"""Weights that are drawn at random, in the forms that operators read, for measuring how fast they are multiplied.

Codes are independent, of mean zero, and near zero more often than not: uniform ones would be no model's, repeated ones
would be in caches. The layout of tile rows is that of docs/kernels.md.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.profiling.written_graphs import Attribute

SCALE = 0.01  # about that of a trained model's matrices
ROWS, SUBBLOCK = 16, 32  # of a tile row
PIECE = 4 << 20  # bytes that are drawn at once
LOW = 0x7777_7777_7777_7777  # three bits of every four
ONE = 0x1111_1111_1111_1111

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TileKind:
    """Tile rows of so many bits, a scale for `block` columns."""

    bits: int
    block: int

    @property
    def attributes(self) -> dict[str, Attribute]:
        """What operators over them are told."""
        return {
            "layout": 1,
            "bits": self.bits,
            "block": self.block,
            "zero_point": int(self.bits == 4),
            "scales": "float16",
            "numbers": "integers",
        }

    def sections(self, columns: int) -> tuple[int, int, int]:
        """Bytes of a tile row: of scales, before the codes in all, and of codes."""
        groups = columns // self.block
        scales, zeros = 2 * ROWS * groups, ROWS // 2 * groups if self.bits == 4 else 0
        return scales, -(-(scales + zeros) // 64) * 64, columns // SUBBLOCK * ROWS * SUBBLOCK * self.bits // 8


EXPERT_TILES = TileKind(4, 32)  # as the scheme `balanced` has them, but for the layers that it raises
DENSE_TILES = TileKind(5, 64)


@dataclass
class Drawing:
    """Draws with several threads; the same numbers from the same seed, in the same order."""

    threads: int
    seed: int = 0
    _drawn: int = field(default=0, repr=False)

    def codes(self, shape: tuple[int, ...]) -> Bytes:
        """Two codes of four bits a byte, each the sum of two of three bits and 1: of mean 8, which stands for zero."""
        size = int(np.prod(shape))
        words = np.empty(-(-size // 8), np.uint64)
        self._drawn += 1

        def fill(at: int) -> None:
            part = words[at : at + PIECE // 8]
            rng = np.random.SFC64([self.seed, self._drawn, at])
            part[:] = rng.random_raw(len(part))
            part &= np.uint64(LOW)
            other = rng.random_raw(len(part))
            other &= np.uint64(LOW)
            part += other
            part += np.uint64(ONE)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(fill, range(0, len(words), PIECE // 8)))
        return words.view(np.uint8)[:size].reshape(shape)

    def tiles(self, kind: TileKind, rows: int, columns: int, stack: int = 0) -> Bytes:
        """Tile rows of a matrix, or of `stack` of them; rows are a multiple of 16, columns of the block."""
        scales, head, codes = kind.sections(columns)
        shape = (rows // ROWS, head + codes)
        out = self.codes((stack, *shape) if stack else shape)
        out[..., :head] = 0x88  # zero points
        out[..., :scales] = np.full(scales // 2, SCALE, np.float16).view(np.uint8)
        return out

    def numbers(self, shape: tuple[int, ...]) -> Floats:
        """fp32 of mean zero and variance 1, none beyond 2.5: sums of two even ones, drawn faster than normal ones."""
        self._drawn += 1
        rng = np.random.Generator(np.random.SFC64([self.seed, self._drawn]))
        drawn: Floats = rng.random(shape, np.float32)
        drawn += rng.random(shape, np.float32)
        drawn -= 1
        drawn *= np.float32(6**0.5)
        return drawn

    def halves(self, shape: tuple[int, ...]) -> Bytes:
        """float16 from 0.5 to 1 of either sign, as the bytes of a cache; the last of `shape` counts bytes."""
        out = self.codes(shape)
        words = out.reshape(-1).view(np.uint16)
        words &= np.uint16(0x83FF)
        words ^= words << np.uint16(12) & np.uint16(0x8000)  # a sign that codes alone would not give
        words |= np.uint16(0x3800)
        return out
