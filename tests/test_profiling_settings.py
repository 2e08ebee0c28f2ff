"""When another setting is kept: by paired runs, with the same output, while nobody else computes."""

import os
import subprocess
import time

import numpy as np
import psutil
import pytest
from made_findings import MACHINE, around

from moedge.devices.profile import load_profile
from moedge.runtime.profiling import neighbour as neighbour_module
from moedge.runtime.profiling import setting_trials
from moedge.runtime.profiling.choosing_settings import Spending, apply, candidates, not_judged, try_affinity
from moedge.runtime.profiling.company import Company
from moedge.runtime.profiling.neighbour import busy_neighbour
from moedge.runtime.profiling.setting_trials import Comparison, SettingTrial, compare, judge, keep_best, steps_work
from moedge.runtime.profiling.timing import Measured, TimeBudget, repeat

SAME = np.zeros(3)


def test_pairs_are_run_in_turn_and_their_ratios_count():
    order = []

    def work(name, seconds):
        def run():
            order.append(name)
            return seconds.pop(0), SAME

        return run

    found = compare(work("a", [9, 2, 2, 2, 2, 8]), work("b", [9, 1, 1, 4, 1, 1]), pairs=5)
    assert order == ["b", "a", "a", "b"] * 3
    assert found == Comparison(Measured(2, 0.5, 8, 5), True)


def test_another_output_is_found():
    outputs = iter([SAME, SAME, SAME, SAME + 1] + [SAME] * 8)
    assert not compare(lambda: (1.0, SAME), lambda: (1.0, next(outputs)), pairs=5).identical
    broken = np.array([np.nan])
    assert compare(lambda: (1.0, broken), lambda: (1.0, broken)).identical


def test_without_time_for_five_pairs_nothing_is_compared(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(setting_trials.time, "monotonic", lambda: now[0])

    def slow():
        now[0] += 1
        return 1.0, SAME

    assert compare(slow, slow, pairs=9, seconds=5) is None
    assert now[0] == 2
    assert compare(slow, slow, pairs=9, seconds=15).gain.runs == 6


def compared(gain, identical=True):
    return Comparison(around(gain), identical)


@pytest.mark.parametrize(
    ("found", "busy", "kept", "why"),
    [
        (compared(1.031), None, True, "1.03 times as fast in 9 paired runs"),
        (compared(1.029), None, False, "less than 1.03"),
        (compared(2.0, False), None, False, "another output"),
        (compared(1.1), compared(0.98), True, "with the same output"),
        (compared(1.1), compared(0.9), False, "0.90 beside a busy neighbour"),
        (compared(1.1), compared(1.0, False), False, "another output"),
        (None, None, False, "no time"),
    ],
)
def test_a_setting_is_kept_for_a_gain_and_the_same_output(found, busy, kept, why):
    trial = judge("awake_us", 100, 300, found, busy)
    assert (trial.kept, trial.usual, trial.tried) == (kept, "100", "300")
    assert why in trial.reason


def test_of_several_values_one_is_kept():
    trials = keep_best([judge("decode_threads", 4, n, compared(gain)) for n, gain in ((1, 0.5), (2, 1.2), (3, 1.1))])
    assert [trial.kept for trial in trials] == [False, True, False]
    assert "another value gains more" in trials[2].reason


def test_beside_other_programs_nothing_is_judged():
    alike = SettingTrial("affinity", "all", "", None, None, False, "alike")
    first, second = not_judged([judge("decode_threads", 2, 1, compared(1.5)), alike], 0.93)
    assert (first.kept, first.reason) == (False, "not judged: other programs kept 0.9 cores busy meanwhile")
    assert second == alike


def test_others_are_what_we_are_not():
    busy, own, now = [100.0], [10.0], [0.0]
    company = Company(lambda: busy[0], lambda: own[0], lambda: now[0])
    busy[0], own[0], now[0] = 130.0, 25.0, 10.0
    assert company.cores() == 1.5
    busy[0], own[0], now[0] = 140.0, 36.0, 20.0
    assert company.cores() == 0


def test_what_is_kept_becomes_the_profile():
    profile = load_profile("auto", MACHINE)
    changes = (("decode_threads", "3"), ("prefill_threads", "2"), ("awake_us", "0"), ("affinity", "fast"))
    changed = apply(profile, [SettingTrial(name, "", value, around(1.1), None, True, "") for name, value in changes])
    assert (changed.decode_threads, changed.prefill_threads, changed.awake_us, changed.affinity) == (3, 2, 0, "fast")
    assert apply(profile, [SettingTrial("awake_us", "100", "0", around(1.1), None, False, "")]) == profile


def test_numbers_of_threads_that_are_tried():
    profile = load_profile("auto", MACHINE)
    assert candidates(profile, MACHINE) == [2, 3, 4]


def test_cores_that_are_alike_leave_nothing_to_choose():
    profile = load_profile("auto", MACHINE)
    [trial] = try_affinity(None, profile, MACHINE, Spending(5, 1, lambda: 9.0))
    assert (trial.kept, trial.reason) == (False, "all cores are alike: nothing to choose")


def test_a_neighbour_ends_with_what_it_was_for(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        neighbour_module.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    with pytest.raises(KeyboardInterrupt), busy_neighbour():
        assert psutil.pid_exists(started[0].pid)
        raise KeyboardInterrupt
    assert started[0].poll() is not None


def test_a_neighbour_ends_by_itself():
    with busy_neighbour(0.01):
        children = psutil.Process(os.getpid()).children()
        gone, alive = psutil.wait_procs(children, timeout=20)
        assert gone
        assert not alive


def test_a_budget_is_of_one_clock():
    now = [100.0]
    budget = TimeBudget(30, lambda: now[0])
    now[0] = 110.0
    assert (budget.taken, budget.left, budget.share(5), budget.share(50, 4)) == (10, 20, 5, 16)
    now[0] = 150.0
    assert (budget.left, budget.share(5)) == (0, 0)


def test_repeating_ends_and_leaves_the_first_out():
    now, found = [0.0], iter(range(100))

    def run():
        now[0] += 1
        return float(next(found))

    assert repeat(run, 4, clock=lambda: now[0]) == [1, 2, 3, 4]
    assert len(repeat(run, 0, least=2, clock=lambda: now[0])) == 2
    assert len(repeat(run, 90, most=3, clock=lambda: now[0])) == 3
    assert time.monotonic() > 0


def test_several_steps_are_one_work():
    seconds = iter([3.0, 1.0, 2.0])
    taken, out = steps_work(lambda: (next(seconds), SAME), 3)()
    assert taken == 2
    assert len(out) == 9
