"""The account of an export: what each group of tensors costs, and what became of the published matrices.

It is data, collected while matrices are written: the manifest shows the groups, report.json and the notes of
`moedge export` show where they came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moedge.export.checkpoint.matrix import Matrix, Source
from moedge.quant.blocks import F32, LEAST_HALF
from moedge.quant.grids import holds
from moedge.quant.scheme import Scheme
from moedge.runtime.manifest import GroupName, TensorGroup

Outcome = Literal["codes unchanged", "dequantized and quantized", "dequantized", "quantized", "as it is"]


@dataclass(frozen=True)
class Origin:
    """Matrices of one group that were published in one format and are stored in one scheme."""

    group: GroupName
    format: str
    outcome: Outcome
    scheme: str  # that they are stored in
    matrices: int
    parameters: int


class Account:
    """What has been written so far; its lines keep the order in which they began."""

    def __init__(self) -> None:
        self._costs: dict[tuple[GroupName, Scheme], list[int]] = {}
        self._counts: dict[tuple[GroupName, str, Outcome, str], list[int]] = {}
        self._largest: dict[str, float] = {}  # scale of a matrix whose scales are fp16
        self.tensors: set[str] = set()  # of the checkpoint, that the matrices are read from

    def add(
        self, group: GroupName, scheme: Scheme, parameters: int, nbytes: int, matrices: Sequence[Matrix] = ()
    ) -> None:
        """Weights of a group were stored in a scheme, `nbytes` of them all; `matrices` are those they come from."""
        cost = self._costs.setdefault((group, scheme), [0, 0])
        cost[0] += parameters
        cost[1] += nbytes
        for source in (source for matrix in matrices for source in matrix.sources):
            count = self._counts.setdefault((group, source.format, _outcome(source, scheme), scheme.name), [0, 0])
            count[0] += 1
            count[1] += source.parameters
            self.tensors.update(source.tensors)

    def note_scales(self, name: str, scales: F32, scheme: Scheme) -> None:
        """Some scales of the matrix of that name in the bundle: whether fp16 has lost all of it is told at the end."""
        if scheme.scales == "float16":
            self._largest[name] = max(self._largest.get(name, 0), float(np.abs(scales).max()))

    def groups(self) -> tuple[TensorGroup, ...]:
        """The manifest's table of tensors."""
        return tuple(
            TensorGroup(name, scheme.name, scheme.bits, scheme.block, parameters, nbytes, scheme.scales)
            for (name, scheme), (parameters, nbytes) in self._costs.items()
        )

    def origins(self) -> tuple[Origin, ...]:
        """Where the matrices came from, a line for each group, format, outcome and scheme."""
        return tuple(Origin(*key, *counts) for key, counts in self._counts.items())

    def notes(self) -> list[str]:
        """A sentence for each line about matrices that were published quantized, and about what fp16 has lost."""
        lost = [
            f"{name}: its weights are so small that scales in float16 do not hold them: use --scale-dtype float8"
            for name, largest in self._largest.items()
            if largest <= LEAST_HALF
        ]
        return lost + [
            f"{o.group}: {o.matrices} matrices of {o.format}: {o.outcome}, stored as {o.scheme}"
            for o in self.origins()
            if o.outcome not in ("quantized", "as it is")
        ]


def _outcome(source: Source, scheme: Scheme) -> Outcome:
    if holds(scheme, source.native):
        return "codes unchanged"
    if source.quantized:
        return "dequantized and quantized" if scheme.quantized else "dequantized"
    return "quantized" if scheme.quantized else "as it is"
