"""Threads stay where they are told to, and so do those that they start."""

import os
import threading

import pytest

from moedge.devices.affinity import stay_on

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system lets nobody choose")


def in_a_thread(work):
    """What a thread of its own finds; this one's affinity is left alone."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@needs_affinity
def test_a_thread_and_its_children_stay():
    one = min(os.sched_getaffinity(0))

    def work():
        assert stay_on([one])
        return os.sched_getaffinity(0), in_a_thread(lambda: os.sched_getaffinity(0))

    assert in_a_thread(work) == ({one}, {one})
    assert not stay_on([])


@needs_affinity
def test_cpus_that_are_not_there_change_nothing():
    def work():
        before = os.sched_getaffinity(0)
        return stay_on([4095]), os.sched_getaffinity(0) == before

    assert in_a_thread(work) == (False, True)
