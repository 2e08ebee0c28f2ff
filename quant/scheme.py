"""How weights are stored: the frozen `Scheme`, its names, and the block that a dimension allows.

A scheme says bits, block, zero point and what scales are kept in; `blocks.py` turns tensors into its codes, those of
`mxfp4` and `nvfp4` with `four_bit_floats.py`; `grids.py` fits published ones.

Kernels read codes of 4 and of 8 bits. Codes of 5 and 6 are for the disk: loaded, they take a byte each.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

BLOCKS = (128, 64, 32, 16)
ScaleType = Literal["float32", "float16", "bfloat16", "float8", "float8e4m3fn", "float8e8m0"]
SCALE_BYTES: dict[ScaleType, int] = {
    "float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "float8e4m3fn": 1, "float8e8m0": 1,
}  # fmt: skip
ROW_BYTES = 2  # of the factor that a row's scales in float8 have in common
MATRIX_BYTES = 4  # of the factor that all of a matrix in nvfp4 has
# Codes are whole numbers, or the four-bit floats E2M1.
Numbers = Literal["integers", "floats"]
_NAME = re.compile(r"(?P<kind>int4|int5|int6|int8)(-block(?P<block>16|32|64|128))?(?P<zp>-zp)?")


@dataclass(frozen=True)
class Scheme:
    """Bits a weight, weights a block along the input dimension (one scale each), whether they have zero points.

    `scales` is what the scales are kept in, which no name tells. Kernels read fp32, so that other types are cast.
    float8 is e4m3, times a bfloat16 for each row.

    Scales of `floats` are a part of the format, read as they are. With `nvfp4`, all weights of a matrix are multiplied
    by one `factor` besides; None: each matrix has its own, as published.
    """

    name: str
    bits: int  # 32, 8, 6, 5 or 4
    block: int = 0  # 0: not quantized
    zero_point: bool = False
    scales: ScaleType = "float32"
    numbers: Numbers = "integers"
    factor: float | None = 1.0

    @property
    def quantized(self) -> bool:
        """Whether weights become codes at all."""
        return self.bits < 32

    @property
    def own_scales(self) -> ScaleType:
        """What its scales are kept in unless others are asked for: the coarsest type that costs next to nothing."""
        if self.numbers == "floats":
            return self.scales
        return "float8" if self.bits < 8 else "float16"

    @property
    def kernel_bits(self) -> int:
        """Bits of the codes that a kernel reads."""
        return self.bits if self.bits == 4 or not self.quantized else 8

    @property
    def widened(self) -> "Scheme":
        """The scheme whose codes kernels read as they are."""
        return replace(self, name=_name(8, self.block, self.zero_point), bits=8) if self.bits in (5, 6) else self

    @property
    def kernel_scheme(self) -> "Scheme":
        """The scheme that a kernel sees: codes in its bits, scales in fp32; four-bit floats as they are."""
        if self.numbers == "floats":
            return self
        return scheme_of(self.kernel_bits, self.block, self.zero_point)

    @property
    def zero_bits(self) -> int:
        """Bits of a zero point, if there are any."""
        return self.kernel_bits

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix in whole blocks: codes, a scale a block, a zero point and factors if it has them."""
        weights = rows * columns
        if not self.quantized:
            return 4 * weights
        blocks = weights // self.block
        zeros = blocks * self.zero_bits // 8 if self.zero_point else 0
        factors = {"float8": ROW_BYTES * rows, "float8e4m3fn": MATRIX_BYTES}.get(self.scales, 0)
        return weights * self.bits // 8 + SCALE_BYTES[self.scales] * blocks + factors + zeros

    def with_scales(self, scales: ScaleType) -> "Scheme":
        """The same scheme with its scales kept in another type; fp32 has none, and four-bit floats no other."""
        return replace(self, scales=scales) if self.quantized and self.numbers == "integers" else self

    @property
    def plain(self) -> "Scheme":
        """The same codes with scales that standard ONNX computes with, and that hold the factor."""
        return self if self.numbers == "integers" else replace(self, scales="float32")

    def with_block(self, block: int) -> "Scheme":
        """The same scheme at another block, renamed."""
        return (
            self if block == self.block else replace(self, block=block, name=_name(self.bits, block, self.zero_point))
        )

    def fit(self, *dimensions: int) -> "Scheme":
        """The scheme at the largest block not above its own that divides every input dimension.

        Raises ValueError if none does. Four-bit zero points are packed in pairs, so they need an even number of blocks.
        """
        if not self.quantized:
            return self
        if self.numbers == "floats":
            if odd := [k for k in dimensions if k % FLOATS_FIT]:
                raise ValueError(f"{_list(odd)} is no multiple of {FLOATS_FIT}, which {self.name} needs")
            return self
        for block in (b for b in BLOCKS if b <= self.block):
            even = 2 if self.zero_point and self.bits == 4 else 1
            if all(k % (block * even) == 0 for k in dimensions):
                return self.with_block(block)
        parts = "an even number of blocks" if self.zero_point and self.bits == 4 else "blocks"
        raise ValueError(
            f"the input dimension {_list(dimensions)} does not divide into {parts} of {BLOCKS[-1]} or more"
        )


def _list(dimensions: Iterable[int]) -> str:
    return " or ".join(str(k) for k in sorted(set(dimensions)))


def _name(bits: int, block: int, zero_point: bool) -> str:
    return f"int{bits}-block{block}" + ("-zp" if zero_point else "")


def scheme_of(bits: int, block: int, zero_point: bool = False, scales: ScaleType = "float32") -> Scheme:
    """The scheme of those values, under the name that `parse_scheme` knows it by."""
    return Scheme(_name(bits, block, zero_point), bits, block, zero_point, scales)


FP32 = Scheme("fp32", 32)
MXFP4 = Scheme("mxfp4", 4, 32, False, "float8e8m0", "floats")
NVFP4 = Scheme("nvfp4", 4, 16, False, "float8e4m3fn", "floats")
FLOATS_FIT = 32  # ONNX Runtime's kernel of both wants multiples of it, whatever the block
# With scales in fp32 a block of 64 takes 4.5 bits a weight on disk, what Q4_0 takes at block 32 with scales in fp16.
DEFAULT_BLOCK = {4: 64, 5: 32, 6: 32, 8: 32}
EXPERT_SCHEMES = {scheme.name: scheme for scheme in (MXFP4, NVFP4)}  # for routed experts alone
SCHEME_NAMES = ("fp32", "int8", "int6", "int5", "int4", *(_name(4, b, z) for z in (False, True) for b in BLOCKS))


def parse_scheme(name: str) -> Scheme:
    """The scheme of that name: fp32, int4, int4-block128-zp, mxfp4 and the like; ValueError names the nearest."""
    if name == "fp32":
        return FP32
    if name in EXPERT_SCHEMES:
        return EXPERT_SCHEMES[name]
    match = _NAME.fullmatch(name)
    if match is None:
        known = (*SCHEME_NAMES, *EXPERT_SCHEMES)
        near = difflib.get_close_matches(name, known, 1, 0.3)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no scheme is called {name!r}{hint}; there are {', '.join(known)}")
    bits = int(match["kind"][3:])
    block = int(match["block"] or DEFAULT_BLOCK[bits])
    return scheme_of(bits, block, bool(match["zp"]))
