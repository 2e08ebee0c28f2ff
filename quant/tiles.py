"""Tile rows: a quantized matrix [N, K] as moedge's own kernels read it, and back. docs/kernels.md has the formula.

A tile row is one record of bytes for 16 rows of the matrix; it holds scales, zero points and factors, zeros up to a
multiple of 64 bytes, then the codes by subblocks of 32 columns, so that a kernel reads it from beginning to end. Within
a record the rows lie side by side, four bytes of codes each, so that one vector of a kernel holds all 16 of them.

Codes are shuffled as words of 32 bits, whose bits a few exchanges bring to their places: no code is ever unpacked.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, Codes, pack, row_factors, unpack
from moedge.quant.four_bit_floats import E4M3
from moedge.quant.scheme import SCALE_BYTES, ScaleType, Scheme

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

LAYOUT = 1  # the number that the kernels know this layout by
ROWS = 16  # of a matrix in a tile row
SUBBLOCK = 32  # columns
ALIGNMENT = 64  # bytes: where codes begin, and the next record
_WORDS = {4: (4, 0), 5: (4, 1), 6: (4, 2), 8: (8, 0)}  # by bits: words of lower and upper codes of a row's subblock
# Exchanges (mask, shift): the bits under the mask change places with those `shift` further up. In turn they bring codes
# from how blocks.py packs them to how a tile row has them; in the opposite turn, back.
_NIBBLES = ((0x0000FF00, 8), (0x00F000F0, 4))  # codes 0 … 7 become 0, 4, 1, 5, 2, 6, 3, 7
_UNSHUFFLE = ((0x22222222, 1), (0x0C0C0C0C, 2), (0x00F000F0, 4), (0x0000FF00, 8))
_UPPER = {5: _UNSHUFFLE + _UNSHUFFLE, 6: ((0x00CC00CC, 6), (0x0000F0F0, 12))}  # bit 4g + j becomes 8j + g; 4 × 4 pairs


def tile_bytes(scheme: Scheme, columns: int) -> int:
    """Bytes of a tile row of a matrix with so many columns."""
    return sum(_sections(scheme, columns))


def count_tiles(rows: int) -> int:
    """Tile rows of a matrix with so many rows."""
    return -(-rows // ROWS)


def tile(codes: Codes, scheme: Scheme) -> U8:
    """Tile rows [ceil(N / 16), bytes] of the rows of a matrix, in a scheme that holds them with its scales as kept.

    AssertionError if a scale is none of the scheme's.
    """
    rows = len(codes.codes)
    columns = codes.scales.shape[1] * scheme.block
    out = np.zeros((count_tiles(rows), tile_bytes(scheme, columns)), np.uint8)
    scales, factors = part_scales(codes.scales, codes.factor, scheme.scales)
    groups = _groups(scheme, columns)
    sections = [_by_tile(_write_scales(scales, scheme.scales), groups)]
    if codes.zero_points is not None:
        zeros = _by_tile(unpack(codes.zero_points, 4 if scheme.bits == 4 else 8), groups)  # [T, G, 16]
        sections.append(zeros[..., :8] | (zeros[..., 8:] << np.uint8(4)) if scheme.bits == 4 else zeros)
    if factors is not None:
        sections.append(_by_tile(factors, 1))
    at = 0
    for section in sections:
        flat = section.reshape(len(out), -1).view(np.uint8)
        out[:, at : at + flat.shape[1]] = flat
        at += flat.shape[1]
    subblocks = -(-columns // SUBBLOCK)
    within = out[:, -subblocks * _subblock_bytes(scheme) :].view("<u4").reshape(len(out), subblocks, -1, ROWS)
    words, more = _WORDS[scheme.bits]
    parts = [codes.codes] if scheme.bits in (4, 8) else np.split(codes.codes, [columns // 2], axis=1)
    lower = _words(parts[0])
    lower = lower if scheme.bits == 8 else _exchange(lower, _NIBBLES)
    within[:, :, :words] = _by_tile(lower, subblocks * words).reshape(len(out), subblocks, words, ROWS)
    if scheme.bits in _UPPER:
        upper = _exchange(_words(parts[1]), _UPPER[scheme.bits])
        within[:, :, words:] = _by_tile(upper, subblocks * more).reshape(len(out), subblocks, more, ROWS)
    return out


def tile_pairs(codes: Codes, scheme: Scheme) -> U8:
    """Tile rows [2 ceil(I / 16), bytes] of rows gate0, up0, gate1, … [2I]: 16 rows of the gate, 16 of up, and so on."""
    gate, up = (tile(codes.rows(slice(place, None, 2)), scheme) for place in range(2))
    return np.stack([gate, up], axis=1).reshape(2 * len(gate), -1)


def read_tiles(tiles: U8, scheme: Scheme, rows: int, columns: int) -> Codes:
    """The inverse of `tile`: the first `rows` rows [rows, columns] of tile rows [T, bytes]."""
    scales, zeros, factors = np.split(tiles, np.cumsum(_sections(scheme, columns)), axis=1)[:3]
    subblocks, words = -(-columns // SUBBLOCK), _WORDS[scheme.bits][0]
    within = tiles[:, -subblocks * _subblock_bytes(scheme) :].reshape(len(tiles), subblocks, -1, 4 * ROWS)
    lower, upper = (part.reshape(len(tiles), -1) for part in (within[:, :, :words], within[:, :, words:]))
    low = _by_row(lower, np.dtype("<u4"), rows)
    low = low if scheme.bits == 8 else _exchange(low, _NIBBLES[::-1])
    codes = _bytes(low, columns if scheme.bits == 8 else columns // 2)
    if scheme.bits in _UPPER:
        high = _exchange(_by_row(upper, np.dtype("<u4"), rows), _UPPER[scheme.bits][::-1])
        codes = np.concatenate([codes, _bytes(high, columns * (scheme.bits - 4) // 8)], axis=1)
    groups, kept = columns // scheme.block, scheme.scales
    read = _read_scales(_by_row(scales, _SCALE_DTYPES[kept], rows)[:, :groups], kept)
    factor = 1.0
    if kept in ("float8", "float8e4m3fn"):
        by_row: F32 = _by_row(factors, np.dtype("<f4"), rows)
        if kept == "float8":
            read = read * by_row
        else:
            factor = float(by_row[0, 0])
    points = None
    if scheme.zero_point:
        if scheme.bits == 4:
            halves = zeros.reshape(len(tiles), -1, ROWS // 2)
            zeros = np.concatenate([halves & np.uint8(15), halves >> np.uint8(4)], axis=2).reshape(len(tiles), -1)
        points = pack(_by_row(zeros, np.dtype(np.uint8), rows)[:, :groups], 4 if scheme.bits == 4 else 8)
    return Codes(codes, read, points, scheme.bits, scheme.block, scheme.numbers, factor)


def part_scales(scales: F32, factor: float, kept: ScaleType) -> tuple[F32, F32 | None]:
    """Scales as numbers of the type that they are kept in, and the factors [N, 1] that the type goes with.

    Without any, they are multiplied by the matrix's own.
    """
    if kept == "float8e4m3fn":
        return scales, np.full((len(scales), 1), factor, np.float32)
    whole = scales * np.float32(factor)
    if kept != "float8":
        return whole, None
    factors = row_factors(whole)
    return whole / factors, factors


def _sections(scheme: Scheme, columns: int) -> tuple[int, int, int, int, int]:
    """Bytes of a record's sections: scales, zero points, factors, zeros, codes."""
    groups = _groups(scheme, columns)
    scales = SCALE_BYTES[scheme.scales] * ROWS * groups
    zeros = groups * (ROWS // 2 if scheme.bits == 4 else ROWS) if scheme.zero_point else 0
    factors = 4 * ROWS if scheme.scales in ("float8", "float8e4m3fn") else 0
    codes = -(-columns // SUBBLOCK) * _subblock_bytes(scheme)
    return scales, zeros, factors, -(scales + zeros + factors) % ALIGNMENT, codes


def _subblock_bytes(scheme: Scheme) -> int:
    """Bytes of the codes of 32 columns, lower ones before upper ones."""
    return 4 * ROWS * sum(_WORDS[scheme.bits])


def _groups(scheme: Scheme, columns: int) -> int:
    """Blocks of a row, with those that only fill the last subblock."""
    return -(-columns // SUBBLOCK) * SUBBLOCK // scheme.block


def _words(packed: U8) -> U32:
    """Bytes [N, n] as words [N, ceil(n / 4)]."""
    if missing := -packed.shape[1] % 4:
        packed = np.pad(packed, ((0, 0), (0, missing)))
    words: U32 = np.ascontiguousarray(packed).view("<u4")
    return words


def _bytes(words: U32, count: int) -> U8:
    """The first bytes [N, count] of words."""
    return np.ascontiguousarray(words).view(np.uint8)[:, :count]


def _exchange(words: U32, exchanges: Iterable[tuple[int, int]]) -> U32:
    for mask, shift in exchanges:
        moved = (words ^ (words >> np.uint32(shift))) & np.uint32(mask)
        words = words ^ moved ^ (moved << np.uint32(shift))
    return words


def _by_tile(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Values [N, n] as [T, width, 16], the last row and column filled up with zeros."""
    rows, count = values.shape
    if rows % ROWS or count < width:
        values = np.pad(values, ((0, -rows % ROWS), (0, width - count)))
    return np.ascontiguousarray(values.reshape(-1, ROWS, width).transpose(0, 2, 1))


def _by_row(section: U8, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    """A section [T, bytes] of values a row and column as [rows, columns]."""
    values = np.ascontiguousarray(section).view(dtype).reshape(len(section), -1, ROWS)
    return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(len(section) * ROWS, -1)[:rows]


_SCALE_DTYPES: dict[ScaleType, np.dtype[Any]] = {
    "float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"),
    "float8": np.dtype(np.uint8), "float8e4m3fn": np.dtype(np.uint8), "float8e8m0": np.dtype(np.uint8),
}  # fmt: skip


def _write_scales(scales: F32, kept: ScaleType) -> NDArray[Any]:
    """Scales in the bits of the type; AssertionError if they are no numbers of it."""
    if kept == "float32":
        return scales
    if kept == "float16":
        with np.errstate(over="ignore"):
            written: NDArray[Any] = scales.astype("<f2")
    elif kept == "bfloat16":
        written = (np.ascontiguousarray(scales).view(np.uint32) >> np.uint32(16)).astype("<u2")
    elif kept == "float8e8m0":
        written = np.clip(np.frexp(scales)[1] + 126, 0, 254).astype(np.uint8)
    else:
        size = np.minimum(np.searchsorted(E4M3[:127], np.abs(scales)), 126).astype(np.uint8)
        written = size | (np.signbit(scales).astype(np.uint8) << np.uint8(7))
    if not np.array_equal(_read_scales(written, kept), scales):
        raise AssertionError(f"there are scales that are not {kept}")
    return written


def _read_scales(written: NDArray[Any], kept: ScaleType) -> F32:
    if kept in ("float32", "float16"):
        return written.astype(np.float32)
    if kept == "bfloat16":
        return (written.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kept == "float8e8m0":
        powers: F32 = np.ldexp(np.float32(1), written.astype(np.int32) - 127)
        return powers
    return E4M3[written.astype(np.intp)]
