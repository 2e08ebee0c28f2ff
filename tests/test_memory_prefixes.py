"""What of a device's memory is for prompts' beginnings, and how many requests it answers at once."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_memory import manifest_of, profile_with

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.runtime.memory_need import check_memory, memory_need, prefix_budget, usual_sessions

MB = 1_000_000
PLENTY = Memory(1000 * MB, 1000 * MB)


def need_of(manifest, sessions, prefixes=0):
    return memory_need(manifest, sessions, 100, "float16", prefixes)


def test_a_tenth_of_what_is_left_is_for_prefixes():
    manifest = manifest_of()
    need = need_of(manifest, 3)
    assert prefix_budget(manifest, profile_with(need.total + 500), PLENTY, 3) == 50
    assert prefix_budget(manifest, profile_with(need.total - 1), PLENTY, 3) == 0
    assert (
        prefix_budget(manifest, profile_with(900 * MB), Memory(need.total + 70, 5), 3) == 7
    )  # of the machine, if less


def test_what_is_kept_of_prompts_counts():
    manifest = manifest_of()
    need = need_of(manifest, 2, 7 * MB)
    assert need.total == need_of(manifest, 2).total + 7 * MB
    check_memory(manifest, profile_with(need.total), PLENTY, 2, prefixes=7 * MB)
    with pytest.raises(MoedgeError, match=r"scratch 0\.6 MB, prompts' beginnings 7\.1 MB, program 83\.9 MB"):
        check_memory(manifest, profile_with(need.total), PLENTY, 2, prefixes=7 * MB + 100_000)


def test_as_many_requests_at_once_as_memory_holds():
    manifest = manifest_of("native", layout="native", context_length=4000)
    needs = [need_of(manifest, sessions).total for sessions in range(6)]
    assert usual_sessions(manifest, profile_with(needs[5]), PLENTY) == 4
    assert usual_sessions(manifest, profile_with(needs[3]), PLENTY) == 3
    assert usual_sessions(manifest, profile_with(needs[3]), Memory(needs[2], 5)) == 2
    assert usual_sessions(manifest, profile_with(5 * MB), PLENTY) == 1  # whether it fits at all is told elsewhere
    turns = replace(manifest, experts=replace(manifest.experts, plan="fused"))
    assert usual_sessions(turns, profile_with(900 * MB), PLENTY) == 2


GROWTH = """
import numpy as np
from pathlib import Path
from moedge.runtime.cache.cache_blocks import CacheBlock
from moedge.runtime.prefixes.block_memory import BlockMemory


def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


memory, rng = BlockMemory(64 << 20), np.random.default_rng(0)
before = anonymous()
for number in range(4000):
    nbytes = int(rng.choice([3_000, 30_000, 500_000, 1_700_000]))
    memory.put(number.to_bytes(32, "big"), CacheBlock(1, np.ones(nbytes, np.uint8)))
print(memory.nbytes, anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells anonymous memory apart")
def test_blocks_take_what_they_are_counted_as():
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=60)
    counted, grown = map(int, done.stdout.split())
    assert 0.9 * (64 << 20) < counted <= 64 << 20
    assert grown < 1.1 * (64 << 20)
