"""Bits under a budget: which rung of its ladder each part of a model gets, so that the error is least for the bytes.

Greedy over the steps of each part's convex hull, which is what a Lagrange multiplier would find, but for the last step
(Shoham and Gersho 1988). What parts and errors are, here KL, is for whoever asks; errors add up.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One way to store a part: its bytes, and the error that it brings."""

    nbytes: int
    error: float


@dataclass(frozen=True)
class _Step:
    part: int
    rung: int  # that it leads to
    nbytes: int
    gain: float  # error less
    slope: float  # gain a byte; never more than that of the part's step before


def spend_bytes(ladders: Sequence[Sequence[Rung]], nbytes: int) -> list[int]:
    """The rung of each part, at most `nbytes` in all and with little error; ValueError if the cheapest take more.

    More bytes never give more error.
    """
    rungs = cheapest(ladders)
    left = nbytes - sum(ladder[rung].nbytes for ladder, rung in zip(ladders, rungs, strict=True))
    if left < 0:
        raise ValueError(f"the least that it takes is {nbytes - left} bytes")
    stopped: set[int] = set()
    for step in _steps(ladders):
        if step.part in stopped or step.nbytes > left:
            stopped.add(step.part)
            continue
        rungs[step.part] = step.rung
        left -= step.nbytes
    return rungs


def reach_error(ladders: Sequence[Sequence[Rung]], error: float) -> list[int]:
    """The rung of each part, with at most `error` in all and few bytes; the best there are if that is out of reach."""
    rungs = cheapest(ladders)
    total = sum(ladder[rung].error for ladder, rung in zip(ladders, rungs, strict=True))
    for step in _steps(ladders):
        if total <= error:
            break
        rungs[step.part] = step.rung
        total -= step.gain
    return rungs


def cheapest(ladders: Sequence[Sequence[Rung]]) -> list[int]:
    """The rung of each part that takes the fewest bytes; of several the best."""
    return [min(range(len(ladder)), key=lambda r: (ladder[r].nbytes, ladder[r].error)) for ladder in ladders]


def _steps(ladders: Sequence[Sequence[Rung]]) -> list[_Step]:
    """All steps upwards, those first that gain most a byte; a part's come in its order."""
    steps = [step for part, ladder in enumerate(ladders) for step in _climb(part, ladder)]
    return sorted(steps, key=lambda step: -step.slope)


def _climb(part: int, ladder: Sequence[Rung]) -> Iterator[_Step]:
    """From the cheapest rung always to the one that gains most a byte: the convex hull."""
    [at], slope = cheapest([ladder]), math.inf
    while True:
        here = ladder[at]
        above = [r for r, rung in enumerate(ladder) if rung.nbytes > here.nbytes and rung.error < here.error]
        if not above:
            return
        slopes = {r: (here.error - ladder[r].error) / (ladder[r].nbytes - here.nbytes) for r in above}
        to = max(above, key=lambda r: (slopes[r], ladder[r].nbytes))
        slope = min(slope, slopes[to])
        yield _Step(part, to, ladder[to].nbytes - here.nbytes, here.error - ladder[to].error, slope)
        at = to
