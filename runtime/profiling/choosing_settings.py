"""Which settings are tried on this machine: numbers of threads, cores, how long threads wait awake."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.devices.affinity import stay_on
from moedge.devices.detect import Machine
from moedge.devices.profile import Profile
from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.neighbour import busy_neighbour
from moedge.runtime.profiling.probe_runs import LayersProbe
from moedge.runtime.profiling.setting_trials import (
    LEAST_GAIN,
    LEAST_PAIRS,
    Comparison,
    SettingTrial,
    TimedWork,
    compare,
    judge,
    keep_best,
    steps_work,
)

AWAKE = (0, 300)  # microseconds, beside the profile's own
AT = 8  # tokens before those that are run
STEPS = 8  # of one token in a run


@dataclass(frozen=True)
class Spending:
    """How much is spent on trials: pairs of each, tokens of a prompt, and seconds that are left for any of them."""

    pairs: int
    prompt: int
    seconds_left: Callable[[], float]

    def compare(self, usual: TimedWork, tried: TimedWork) -> Comparison | None:
        """As of setting_trials.py, within a part of what is left."""
        return compare(usual, tried, self.pairs, self.seconds_left() / 2)


@dataclass(frozen=True)
class NeighbourTime:
    """Seconds of a step that waits awake for so long, alone and beside a busy neighbour."""

    awake_us: int
    idle_s: float
    busy_s: float


def candidates(profile: Profile, machine: Machine) -> list[int]:
    """Numbers of threads that are worth a trial beside the profile's: all cores, all but one, the fast ones, half."""
    wanted = {machine.cores, machine.cores - 1, machine.fast_cores, machine.cores // 2}
    return sorted(count for count in wanted if count >= 1)


def try_threads(
    wide: LayersProbe, profile: Profile, machine: Machine, library: Library, effort: Spending
) -> list[SettingTrial]:
    """Decode and prompts, each with other numbers of threads than the profile has."""
    most = max([profile.threads, *candidates(profile, machine)])
    probe = wide.like(profile.with_threads(most, "tried"))
    token = probe.rng.standard_normal((1, probe.shape.hidden), np.float32)
    prompt = probe.rng.standard_normal((effort.prompt, probe.shape.hidden), np.float32)

    def with_threads(count: int, x: NDArray[Any], past: int, steps: int) -> TimedWork:
        def run() -> tuple[float, NDArray[Any]]:
            library.limit(count)
            return probe.seconds(len(x), past, x)

        return steps_work(run, steps)

    trials = list[SettingTrial]()
    kinds = (("decode_threads", profile.decode_threads, token, AT, STEPS),
             ("prefill_threads", profile.prefill_threads, prompt, 0, 1))  # fmt: skip
    for setting, usual, x, past, steps in kinds:
        for count in candidates(profile, machine):
            if count != usual:
                works = (with_threads(each, x, past, steps) for each in (usual, count))
                trials.append(judge(setting, usual, count, effort.compare(*works)))
        if not any(trial.setting == setting for trial in trials):
            trials.append(SettingTrial(setting, str(usual), "", None, None, False, "one core: nothing else to try"))
    library.limit(most)
    return keep_best(trials)


def try_affinity(wide: LayersProbe, profile: Profile, machine: Machine, effort: Spending) -> list[SettingTrial]:
    """All cores against the fast ones, where some are slow."""
    usual = profile.affinity
    cores = sum(cluster.count for cluster in machine.clusters)
    if not machine.fast_cpus or len(machine.fast_cpus) >= cores:
        return [SettingTrial("affinity", usual, "", None, None, False, "all cores are alike: nothing to choose")]
    every = usable_cpus()
    x = wide.rng.standard_normal((1, wide.shape.hidden), np.float32)
    works = dict[str, TimedWork]()
    for name, cpus in (("all", every), ("fast", machine.fast_cpus)):
        with staying_on(cpus, every):
            works[name] = _on(cpus, every, wide.like(profile), x)
    other = "all" if usual == "fast" else "fast"
    return [judge("affinity", usual, other, effort.compare(works[usual], works[other]))]


def try_awake(
    wide: LayersProbe, profile: Profile, effort: Spending
) -> tuple[list[SettingTrial], tuple[NeighbourTime, ...]]:
    """How long a thread waits in a loop for the next operator, with the machine idle and with a busy neighbour."""
    x = wide.rng.standard_normal((1, wide.shape.hidden), np.float32)
    works = {us: _awake(wide.like(replace(profile, awake_us=us)), x) for us in {profile.awake_us, *AWAKE}}
    usual = works[profile.awake_us]
    others = [us for us in sorted(works) if us != profile.awake_us]
    idle = {us: effort.compare(usual, works[us]) for us in others}
    idle_s = {us: work()[0] for us, work in works.items()}
    busy = dict[int, Comparison | None]()
    with busy_neighbour():
        for us in others:
            found = idle[us]
            if found and found.gain.median >= LEAST_GAIN:  # else nothing hangs on it
                busy[us] = effort.compare(usual, works[us])
        busy_s = {us: work()[0] for us, work in works.items()}
    trials = [judge("awake_us", profile.awake_us, us, idle[us], busy.get(us)) for us in others]
    return keep_best(trials), tuple(NeighbourTime(us, idle_s[us], busy_s[us]) for us in sorted(works))


def not_judged(trials: Sequence[SettingTrial], others: float) -> list[SettingTrial]:
    """The same, none of them kept: other programs used so many cores meanwhile."""
    why = f"not judged: other programs kept {others:.1f} cores busy meanwhile"
    return [replace(trial, kept=False, reason=why) if trial.gain else trial for trial in trials]


def apply(profile: Profile, trials: Sequence[SettingTrial]) -> Profile:
    """The profile with every setting that is kept."""
    for trial in trials:
        if not trial.kept:
            continue
        match trial.setting:
            case "decode_threads":
                profile = replace(profile, decode_threads=int(trial.tried))
            case "prefill_threads":
                profile = replace(profile, prefill_threads=int(trial.tried))
            case "awake_us":
                profile = replace(profile, awake_us=int(trial.tried))
            case "affinity":
                profile = replace(profile, affinity="fast" if trial.tried == "fast" else "all")
    return profile


def effort_of(quick: bool, seconds_left: Callable[[], float]) -> Spending:
    """How much is spent."""
    return Spending(LEAST_PAIRS, 64, seconds_left) if quick else Spending(2 * LEAST_PAIRS + 1, 256, seconds_left)


def usable_cpus() -> tuple[int, ...]:
    """Logical CPUs that this process may use; none where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


@contextmanager
def staying_on(cpus: Sequence[int], before: Sequence[int]) -> Iterator[None]:
    """This thread, and those that it starts, on these CPUs; afterwards on those `before`."""
    stay_on(cpus)
    try:
        yield
    finally:
        stay_on(before)


def _on(cpus: Sequence[int], before: Sequence[int], probe: LayersProbe, x: NDArray[Any]) -> TimedWork:
    work = steps_work(lambda: probe.seconds(1, AT, x), STEPS)

    def run() -> tuple[float, NDArray[Any]]:
        with staying_on(cpus, before):
            return work()

    return run


def _awake(probe: LayersProbe, x: NDArray[Any]) -> Callable[[], tuple[float, NDArray[Any]]]:
    return steps_work(lambda: probe.seconds(1, AT, x), STEPS)
