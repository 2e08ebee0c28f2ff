"""Threads on the fast cores of a chip that has slow ones too."""

import os
from collections.abc import Sequence


def stay_on(cpus: Sequence[int]) -> bool:
    """Keep this thread, and those that it starts from now on, to some logical CPUs; False where no system call does it.

    A thread that is on a slow core makes all others wait at the end of every operator.
    """
    if not cpus or not hasattr(os, "sched_setaffinity"):
        return False
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:  # a container that forbids it, or CPUs that were switched off meanwhile
        return False
    return True
