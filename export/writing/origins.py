"""What became of the published matrices: for each group and format, whether codes stayed, and how they are stored.

It is data, collected while matrices are written; report.json shows it, and `moedge export` prints what it notes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from moedge.export.checkpoint.matrix import Matrix, Source
from moedge.quant.grids import holds
from moedge.quant.scheme import Scheme

Outcome = Literal["codes unchanged", "dequantized and quantized", "dequantized", "quantized", "as it is"]


@dataclass(frozen=True)
class Origin:
    """Matrices of one group and format that were stored in the same way."""

    group: str  # as in the manifest's table of tensors
    format: str
    outcome: Outcome
    scheme: str  # that they are stored in
    matrices: int
    parameters: int


class Origins:
    """Counts, for each group, format, outcome and scheme, of the matrices that were stored so far."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, Outcome, str], list[int]] = {}

    def add(self, group: str, matrices: Sequence[Matrix], scheme: Scheme) -> None:
        """Matrices of a group were stored in a scheme."""
        for source in (source for matrix in matrices for source in matrix.sources):
            entry = self._counts.setdefault((group, source.format, _outcome(source, scheme), scheme.name), [0, 0])
            entry[0] += 1
            entry[1] += source.parameters

    def lines(self) -> tuple[Origin, ...]:
        """The account, in the order in which its lines began."""
        return tuple(Origin(*key, *counts) for key, counts in self._counts.items())

    def notes(self) -> list[str]:
        """A sentence for each line about matrices that were published quantized."""
        return [
            f"{o.group}: {o.matrices} matrices of {o.format}: {o.outcome}, stored as {o.scheme}"
            for o in self.lines()
            if o.outcome not in ("quantized", "as it is")
        ]


def _outcome(source: Source, scheme: Scheme) -> Outcome:
    if holds(scheme, source.native):
        return "codes unchanged"
    if source.quantized:
        return "dequantized and quantized" if scheme.quantized else "dequantized"
    return "quantized" if scheme.quantized else "as it is"
