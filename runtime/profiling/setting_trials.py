"""Whether another setting is faster than the usual one: paired runs in turn, kept only for a gain and the same output.

A gain below 3 % is noise or not worth a difference from other machines; another output would be another model.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.runtime.profiling.timing import Measured

LEAST_GAIN = 1.03  # median of the pairs' ratios
LEAST_PAIRS = 5
NO_LOSS = 0.97  # beside a busy neighbour

TimedWork = Callable[[], tuple[float, NDArray[Any]]]  # seconds, and what came out; the same work each time


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the one that was tried is, and whether both gave the same bits."""

    gain: Measured
    identical: bool


@dataclass(frozen=True)
class SettingTrial:
    """One value that was tried instead of the usual one; `busy_gain` beside a busy neighbour, where that counts."""

    setting: str
    usual: str
    tried: str
    gain: Measured | None  # None: not tried, and why
    busy_gain: Measured | None
    kept: bool
    reason: str


def compare(
    usual: TimedWork, tried: TimedWork, pairs: int = LEAST_PAIRS, seconds: float = math.inf
) -> Comparison | None:
    """In turn, each first in every other pair; one pair before them warms up.

    As many pairs as the seconds allow, LEAST_PAIRS at least; None, after the first, where they allow fewer.
    """
    works, ratios, same, begun = (usual, tried), list[float](), True, time.monotonic()
    for number in range(pairs + 1):
        taken = time.monotonic() - begun
        after = taken / max(1, number) * (1 + max(number, LEAST_PAIRS))  # with one more, and LEAST_PAIRS at least
        if number and after > seconds:
            if len(ratios) < LEAST_PAIRS:
                return None
            break
        found = dict[int, tuple[float, NDArray[Any]]]()
        for which in (0, 1) if number % 2 else (1, 0):
            found[which] = works[which]()
        same = same and np.array_equal(found[0][1], found[1][1], equal_nan=True)
        if number:
            ratios.append(found[0][0] / found[1][0])
    return Comparison(Measured.of(ratios), same)


def judge(
    setting: str, usual: object, tried: object, found: Comparison | None, busy: Comparison | None = None
) -> SettingTrial:
    """What is made of a comparison, None if there was no time for one."""
    if found is None:
        return SettingTrial(setting, str(usual), str(tried), None, None, False, "no time for five pairs")
    identical = found.identical and (busy is None or busy.identical)
    gain = found.gain.median
    if not identical:
        why = "another output"
    elif gain < LEAST_GAIN:
        why = f"{gain:.2f} times as fast: less than {LEAST_GAIN:.2f}"
    elif busy is not None and busy.gain.median < NO_LOSS:
        why = f"{gain:.2f} times as fast, but {busy.gain.median:.2f} beside a busy neighbour"
    else:
        why = f"{gain:.2f} times as fast in {found.gain.runs} paired runs, with the same output"
    kept = identical and gain >= LEAST_GAIN and (busy is None or busy.gain.median >= NO_LOSS)
    return SettingTrial(setting, str(usual), str(tried), found.gain, busy.gain if busy else None, kept, why)


def keep_best(trials: list[SettingTrial]) -> list[SettingTrial]:
    """The same trials, of each setting no more than one kept: that with the most gain."""
    best: dict[str, float] = {}
    for trial in trials:
        if trial.kept and trial.gain:
            best[trial.setting] = max(best.get(trial.setting, 0.0), trial.gain.median)
    told = list[SettingTrial]()
    for trial in trials:
        beaten = trial.kept and trial.gain is not None and trial.gain.median < best[trial.setting]
        told.append(_beaten(trial) if beaten else trial)
    return told


def steps_work(seconds: Callable[[], tuple[float, NDArray[Any]]], steps: int) -> TimedWork:
    """Several runs of one kind as one: their median, so that a pause of the system counts as one of many."""

    def work() -> tuple[float, NDArray[Any]]:
        found = [seconds() for _ in range(steps)]
        return statistics.median(taken for taken, _ in found), np.concatenate([out for _, out in found])

    return work


def _beaten(trial: SettingTrial) -> SettingTrial:
    reason = f"{trial.reason}; another value gains more"
    return SettingTrial(trial.setting, trial.usual, trial.tried, trial.gain, trial.busy_gain, False, reason)
