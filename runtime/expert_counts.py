"""How often the kernels of one program chose each of its experts: totals that only grow while it is loaded.

The kernels count anyway (runtime/kernels/usage.h), by the owner that they were made for; each program is one here.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.kernels.library import Library
from moedge.runtime.manifest import Manifest

_owners = itertools.count(1 << 32)  # above those that are chosen by hand


@dataclass(frozen=True)
class ExpertTotals:
    """Times that each expert was chosen: of the layers `layers`, `counts` [layers, experts], in `tokens` tokens.

    A layer is listed once it has run. Totals of a run in progress may have more tokens in the first layers.
    """

    layers: tuple[int, ...]
    counts: NDArray[np.uint64]
    tokens: int


class ExpertCounts:
    """The counts of one program, whose kernels are made while `kept` lasts. Any thread may read them."""

    def __init__(self, library: Library, num_layers: int, num_experts: int, num_experts_per_tok: int) -> None:
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self._library = library
        self._num_layers = num_layers
        self._owner = next(_owners)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Kernels that this thread makes meanwhile are counted here."""
        with self._library.owned(self._owner):
            yield

    def read(self) -> ExpertTotals:
        """The totals until now; no run waits for it."""
        layers, rows = list[int](), list[NDArray[np.uint64]]()
        for layer in range(self._num_layers):
            try:
                rows.append(self._library.usage(self._owner, layer, self.num_experts))
            except LookupError:  # a layer without experts, or none has run yet
                continue
            layers.append(layer)
        counts = np.stack(rows) if rows else np.zeros((0, self.num_experts), np.uint64)
        tokens = int(counts[0].sum()) // self.num_experts_per_tok if rows else 0
        return ExpertTotals(tuple(layers), counts, tokens)


def expert_counts_of(manifest: Manifest, library: Library | None) -> ExpertCounts | None:
    """The counts of a program about to be loaded; None where nothing counts: other plans, models without experts."""
    facts = manifest.model
    if library is None or not facts.num_experts or not facts.num_experts_per_tok:
        return None
    return ExpertCounts(library, facts.num_hidden_layers, facts.num_experts, facts.num_experts_per_tok)
