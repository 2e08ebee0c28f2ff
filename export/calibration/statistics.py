"""What the matrices of one layer read while calibration text runs through it.

An expert's statistics are of the tokens that chose it; where these are too few, of all tokens. What its
down-projection reads is made of its gate and up-projection when it is asked for, so that memory holds one layer's
inputs and one expert's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moedge.export.checkpoint.views import names_of
from moedge.export.model.config import Gate
from moedge.export.streaming.streamed_model import RoutedTaps, Taps
from moedge.quant.blocks import F32
from moedge.runtime.manifest import GroupName

FIRST_TOKEN = 16.0  # how much a window's first token counts: attention rests on it (Xiao et al. 2023)
READERS = 0.3  # what rows of readers weigh beside a tied head's inputs: from 0.1 to 3 the outcome is much the same
FEW = 64  # tokens of an expert: with fewer its statistics are those of all tokens
_MOST = 2048  # of all tokens, for such an expert


@dataclass(frozen=True, eq=False)
class Sample:
    """Inputs of a matrix, a token a row [tokens, K], and how much each counts [tokens]."""

    rows: F32
    weights: F32
    own: bool = True  # False: an expert's that too few tokens chose

    @cached_property
    def moments(self) -> F32:
        """The mean square of each column [K]."""
        total = np.maximum(self.weights.sum(), 1e-30)
        moments: F32 = np.einsum("tk,tk,t->k", self.rows, self.rows, self.weights / total)
        return moments

    def hessian(self, by_column: F32 | None) -> F32:
        """The mean of x·xᵀ [K, K], for columns of a matrix that were multiplied by factors."""
        rows = self.rows * np.sqrt(self.weights / np.maximum(self.weights.sum(), 1e-30))[:, None]
        if by_column is not None:
            rows /= by_column
        product: F32 = rows.T @ rows
        return product


class MatrixInputs(Protocol):
    """What matrices read."""

    def sample(self, name: str) -> Sample | None:
        """What the matrix of that name reads; None if it was not seen."""
        ...


class TableInputs:
    """What an embedding, a head, or the one that is both, is rounded by; read when it is first asked for.

    A row of an embedding is read as a whole, by the first layer: to it rows r of that layer's matrices are what inputs
    are to others, since errors e of an embedding's row change what such a matrix gives by r · e.
    """

    def __init__(self, name: str, states: Callable[[], F32] | None, readers: Callable[[], F32] | None) -> None:
        """`states` gives what the head multiplies [windows, tokens, hidden_size], `readers` rows [n, hidden_size]."""
        self._name, self._states, self._readers = name, states, readers

    def sample(self, name: str) -> Sample | None:
        """See `MatrixInputs`."""
        return self._sample if name == self._name else None

    @cached_property
    def _sample(self) -> Sample:
        found = [] if self._states is None else [self._of_states(self._states())]
        if self._readers is not None:
            rows = self._readers()
            weights = np.ones(len(rows), np.float32)
            if found:
                weights *= READERS * _energy(*found[0]) / max(_energy(rows, weights), 1e-30)
            found.append((rows, weights))
        rows, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Sample(rows, weights)

    def _of_states(self, states: F32) -> tuple[F32, F32]:
        weights = np.ones(states.shape[:2], np.float32)
        weights[:, 0] = FIRST_TOKEN
        return states.reshape(-1, states.shape[-1]), weights.reshape(-1)


def _energy(rows: F32, weights: F32) -> float:
    return float(np.einsum("tk,tk,t->", rows, rows, weights))


class LayerInputs:
    """The inputs of a layer's matrices by the checkpoint's names; `collect` takes the taps of each window in turn."""

    def __init__(self, gate: Gate) -> None:
        self.groups: Mapping[str, GroupName] = {}  # of all matrices that a scheme rounds
        self._gate = gate
        self._parts: dict[str, list[F32]] = {}
        self._first: list[F32] = []
        self._routed: list[RoutedTaps] = []
        self._experts: dict[
            str, tuple[int, bool]
        ] = {}  # of each matrix: whose it is, and whether it is a down-projection
        self._samples: dict[object, Sample] = {}

    def collect(self, _: int, taps: Taps) -> None:
        """Keep what one window's tokens brought."""
        for name, rows in taps.inputs.items():
            self._parts.setdefault(name, []).append(rows)
            weights = np.ones(len(rows), np.float32)
        weights[0] = FIRST_TOKEN
        self.groups = taps.groups
        self._first.append(weights)
        if taps.routed is not None:
            self._routed.append(taps.routed)
            if not self._experts:
                self._experts = _owners(taps.routed)

    def sample(self, name: str) -> Sample | None:
        """What a matrix reads; None if it was not seen."""
        if name in self._experts:
            expert, down = self._experts[name]
            return self._inside(expert) if down else self._chosen(expert)
        if name not in self._parts:
            return None
        key = id(self._parts[name][0])  # one array for all that read the same
        if key not in self._samples:
            self._samples[key] = Sample(np.concatenate(self._parts[name]), np.concatenate(self._first))
        return self._samples[key]

    def coverage(self) -> NDArray[np.int64]:
        """Tokens that chose each expert [experts]; empty for a layer without experts."""
        if not self._routed:
            return np.zeros(0, np.int64)
        count = len(self._routed[0].weights.gate_up)
        return np.bincount(np.concatenate([taps.chosen.reshape(-1) for taps in self._routed]), minlength=count)

    @cached_property
    def _all(self) -> tuple[F32, NDArray[np.int64], F32]:
        """Of all tokens: what the experts read, whom they chose, and how much each choice counts."""
        x, chosen, shares = (
            np.concatenate([getattr(taps, part) for taps in self._routed]) for part in ("x", "chosen", "shares")
        )
        return x, chosen, shares**2 * np.concatenate(self._first)[:, None]

    def _chosen(self, expert: int) -> Sample:
        if (expert, False) not in self._samples:
            x, chosen, weights = self._all
            tokens, place = np.nonzero(chosen == expert)
            if len(tokens) >= FEW:
                sample = Sample(x[tokens], weights[tokens, place])
            else:
                some = np.linspace(0, len(x) - 1, min(len(x), _MOST)).astype(np.int64)
                sample = Sample(x[some], np.concatenate(self._first)[some], own=False)
            self._keep(expert, False, sample)
        return self._samples[expert, False]

    def _inside(self, expert: int) -> Sample:
        if (expert, True) not in self._samples:
            read = self._chosen(expert)
            weights = self._routed[0].weights
            matrix = weights.gate_up[expert]
            both = read.rows @ matrix.read(0, matrix.shape[0]).T
            if weights.gate_up_bias is not None:
                both += weights.gate_up_bias[expert]
            inner = activate(self._gate, both)
            self._keep(expert, True, Sample(inner, read.weights, read.own))
        return self._samples[expert, True]

    def _keep(self, expert: int, down: bool, sample: Sample) -> None:
        """Only one expert's at a time."""
        for key in [k for k in self._samples if isinstance(k, tuple) and k[0] != expert]:
            del self._samples[key]
        self._samples[expert, down] = sample


def activate(gate: Gate, joined: F32) -> F32:
    """See `Gate`: of gate and up in turn [n, 2 · width], or of up alone [n, width]."""
    if gate.kind == "relu2":
        squared: F32 = np.maximum(joined, 0) ** 2
        return squared
    gates, ups = joined[:, ::2], joined[:, 1::2]
    if gate.kind == "geglu_tanh":
        inside = np.float32((2 / np.pi) ** 0.5) * (gates + np.float32(0.044715) * gates**3)
        gelu: F32 = gates * (1 + np.tanh(inside)) * np.float32(0.5) * ups
        return gelu
    if gate.limit is not None:
        gates, ups = np.minimum(gates, gate.limit), np.clip(ups, -gate.limit, gate.limit)
    with np.errstate(over="ignore"):
        inner: F32 = gates / (1 + np.exp(-gate.alpha * gates)) * (ups + np.float32(gate.beta))
    return inner


def _owners(routed: RoutedTaps) -> dict[str, tuple[int, bool]]:
    owners: dict[str, tuple[int, bool]] = {}
    for down, matrices in ((False, routed.weights.gate_up), (True, routed.weights.down)):
        for expert, matrix in enumerate(matrices):
            owners |= dict.fromkeys(names_of(matrix), (expert, down))
    return owners
