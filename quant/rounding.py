"""Rounding as a value: what turns a matrix into codes of a scheme, by the matrix's name.

The exporter passes one along and never asks which it is. Round to nearest is here; a method that searches scales or
knows the model's activations is another value of the same kind. Published codes that a scheme holds are never rounded.
"""

from dataclasses import dataclass
from typing import Protocol

from moedge.quant.blocks import F32, Codes, quantize
from moedge.quant.scheme import Scheme


class Rounding(Protocol):
    """A method. Rows are independent: any split of a matrix into rows gives the same codes."""

    @property
    def name(self) -> str:
        """What reports and a resumed export know it by: another name, other codes."""
        ...

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """Codes of some rows [n, K] of the matrix of that name in the checkpoint; ValueError for NaN or infinity."""
        ...


@dataclass(frozen=True)
class Nearest:
    """Each block by itself, each weight to its nearest code; see `quantize`."""

    name: str = "nearest"

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """See `Rounding`."""
        return quantize(weights, scheme)


NEAREST = Nearest()
