"""A trial of a model's parts: each is rounded alone, all others exact, and what that does to the logits is its KL.

A part is a group of a layer. The exact model runs a few windows, a layer at a time; where a part begins to differ, a
second run branches off and goes on through the exact layers, so that all parts need one pass over the checkpoint.
Hidden states lie on the disk, memory is that of one layer. What is made of the figures is planning.py's.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.calibration.beside_export import BesideExport
from moedge.export.graph.builder import Builder
from moedge.export.graph.channels import Channels
from moedge.export.graph.standard import StandardLowering
from moedge.export.streaming.stage import Stage, StageMaker
from moedge.quant.blocks import F32, Codes, dequantize
from moedge.quant.fidelity import F64, SKIPPED, diverge_from
from moedge.quant.plan import EXACT, Place, SchemePlan
from moedge.quant.rounding import NEAREST, Rounding
from moedge.quant.scheme import FP32, Scheme
from moedge.quant.search import SEARCHED
from moedge.runtime.manifest import EMBEDDING, LM_HEAD

_ROWS = 512  # of a part, that are rounded to every rung
_ROWS_EACH = 16  # of them, of a matrix or of a piece of one


@dataclass(frozen=True)
class Part:
    """A group of a layer, and the schemes that it may get, the cheapest first, scales and all; bytes with each."""

    place: Place
    rungs: tuple[Scheme, ...]
    nbytes: tuple[int, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What a part's first rung costs, and the mean square error of its weights at each rung, in any unit."""

    kl: float
    errors: tuple[float, ...]

    def kl_at(self, rung: int) -> float:
        """The KL at another rung, which grows as the mean square error does."""
        return self.kl * self.errors[rung] / self.errors[0] if self.errors[0] else self.kl


@dataclass
class Comparing:
    """A rounding that rounds some rows to all rungs besides, searched without weights, and notes the errors."""

    rounding: Rounding
    rungs: tuple[Scheme, ...]
    errors: F64 = field(init=False)
    rows: int = 0

    def __post_init__(self) -> None:
        self.errors = np.zeros(len(self.rungs))

    @property
    def name(self) -> str:
        return self.rounding.name

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """See `Rounding`."""
        if self.rows < _ROWS:
            some = weights[:: -(-len(weights) // _ROWS_EACH)]
            self.rows += len(some)
            for place, rung in enumerate(self.rungs):
                codes = SEARCHED(matrix, some, rung.fit(some.shape[1]))
                self.errors[place] += np.square(dequantize(codes) - some).sum(dtype=np.float64)
        return self.rounding(matrix, weights, scheme)


@dataclass
class Repeating:
    """A rounding that is asked for a matrix twice, a few rows at a time in the same order, and rounds it once."""

    rounding: Rounding
    kept: deque[Codes] = field(default_factory=deque)
    again: bool = False

    @property
    def name(self) -> str:
        return self.rounding.name

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """See `Rounding`."""
        if self.again:
            return self.kept.popleft()
        self.kept.append(self.rounding(matrix, weights, scheme))
        return self.kept[-1]


def try_parts(
    maker: StageMaker,
    windows: NDArray[np.int64],
    parts: Sequence[Part],
    beside: BesideExport,
    on_layer: Callable[[int], None],
) -> dict[Place, Sensitivity]:
    """Round each part alone to its first rung, by a calibration that is told of each layer before it.

    `windows` [windows, tokens] are what logits are compared on. MoedgeError if the exact model's are no numbers.
    """
    model, ladders = maker.model, {part.place: part.rungs for part in parts}
    layers, tied = model.num_hidden_layers, model.tie_word_embeddings
    compared: dict[Place, Comparing] = {}
    branches: dict[Place, int] = {}  # where the states of a part's run are
    shape = 1 + len(parts), *windows.shape, model.hidden_size
    states: F32 = np.memmap(maker.folder / "states", np.float32, "w+", shape=shape)
    rounded_table: Stage | None = None

    def compare(place: Place, rounding: Rounding = beside.rounding) -> Rounding:
        return compared.setdefault(place, Comparing(rounding, ladders[place]))

    def branch(
        place: Place, begin: int | None, end: int, given: NDArray[np.generic], rounding: Rounding = beside.rounding
    ) -> None:
        rounded = {place: ladders[place][0]}
        with _open(maker, rounded, compare(place, rounding), begin, end, beside.channels) as (stage, _):
            branches[place] = 1 + len(branches)
            _run(stage, given, states[branches[place]])

    with ExitStack() as opened:
        table: Place = (EMBEDDING, None)
        head: Place = (LM_HEAD, None)
        if table in ladders:
            rounding = Repeating(beside.rounding) if tied else beside.rounding
            branch(table, None, 0, windows, rounding)
            if isinstance(rounding, Repeating):  # what the head reads is forgotten with the first layer
                rounding.again = True
                rounded = {head: ladders[table][0]}
                rounded_table, _ = opened.enter_context(_open(maker, rounded, rounding, layers, None, beside.channels))
        with _open(maker, {}, NEAREST, None, 0) as (stage, _):
            _run(stage, windows, states[0])
        for layer in range(layers):
            on_layer(layer)
            beside.prepare(layer)
            begun = len(branches)
            for place in ladders:
                if place[1] == layer:
                    branch(place, layer, layer + 1, states[0])
            with _open(maker, {}, NEAREST, layer, layer + 1) as (stage, _):
                for run in states[: 1 + begun]:
                    _run(stage, run, run)
        on_layer(layers)
        beside.prepare(layers)
        exact, _ = opened.enter_context(_open(maker, {}, NEAREST, layers, None))
        heads = dict.fromkeys(branches, exact)
        if rounded_table is not None:
            heads[table] = rounded_table
        if head in ladders:
            branches[head] = 0
            heads[head], _ = opened.enter_context(
                _open(maker, {head: ladders[head][0]}, compare(head), layers, None, beside.channels)
            )
        found = _compare(exact, heads, branches, states)
    return {part.place: Sensitivity(found[part.place], tuple(compared[part.place].errors.tolist())) for part in parts}


def _open(
    maker: StageMaker,
    schemes: dict[Place, Scheme],
    rounding: Rounding,
    begin: int | None,
    end: int | None,
    channels: Channels | None = None,
) -> AbstractContextManager[tuple[Stage, StandardLowering]]:
    """Blocks whose weights are exact but for those places."""
    scales = {scheme.scales for scheme in schemes.values()}
    plan = SchemePlan("trial", FP32, by_place=schemes, scales=scales.pop()) if schemes else EXACT

    def lower(builder: Builder) -> StandardLowering:
        return StandardLowering(builder, plan, rounding, [])

    return maker.open(lower, begin, end, channels or Channels())


def _run(stage: Stage, given: NDArray[np.generic], into: F32) -> None:
    for place, window in enumerate(given):
        [into[place]] = stage.run(window)


def _compare(exact: Stage, heads: dict[Place, Stage], branches: dict[Place, int], states: F32) -> dict[Place, float]:
    """The mean KL of each branch behind its head."""
    sums, judged = dict.fromkeys(branches, 0.0), slice(min(SKIPPED, states.shape[2] - 1), None)
    try:
        for window in range(states.shape[1]):
            [reference] = exact.run(states[0, window, judged])
            diverge = diverge_from(reference)
            for place, branch in branches.items():
                [logits] = heads[place].run(states[branch, window, judged])
                sums[place] += float(diverge(logits).mean(dtype=np.float64)) / states.shape[1]
    except ValueError as error:
        raise MoedgeError(f"the model's answers cannot be compared ({error}): name a --scheme instead.") from None
    return sums
