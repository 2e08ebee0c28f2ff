"""Threads of the kernels' own: every item is done once, they sleep between steps, and a model is the same with any."""

import os
import subprocess
import time

import numpy as np
import psutil
import pytest
from house import ROOT
from kernel_graphs import matrix, open_linear
from native import needs_kernels

from moedge.runtime.kernels.build import SOURCES, BuildError, find_compiler
from moedge.runtime.kernels.library import open_library

SANITIZERS = {"none": (), "threads": ("-fsanitize=thread",), "addresses": ("-fsanitize=address,undefined",)}


@pytest.mark.parametrize("kind", SANITIZERS)
def test_every_item_is_done_once(tmp_path, kind):
    try:
        compiler = find_compiler(os.environ)
        sources = ROOT / "tests" / "kernels" / "pool.cpp", SOURCES / "pool.cpp"
        flags = ("-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", f"-I{SOURCES}", *SANITIZERS[kind])
        compiler.run(*flags, *sources, "-pthread", "-o", tmp_path / "pool")
    except BuildError as failed:
        if kind == "none" and "no C++ compiler" not in str(failed):
            raise
        pytest.skip(f"{failed}")  # not every compiler comes with its sanitizers
    done = subprocess.run([tmp_path / "pool"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "every item once\n"), done.stdout + done.stderr[-4000:]


def open_lent(threads, awake_us=100):
    """A product of its own with so many threads of the kernels', and one of onnxruntime's."""
    rows, columns = 2048, 1024
    tiles, _ = matrix(rows, columns)
    with open_library().lent(threads, awake_us):
        return open_linear(tiles, rows, columns, threads=1)


@needs_kernels
@pytest.mark.parametrize("awake_us", [0, 100])
def test_any_number_of_threads_computes_the_same(awake_us):
    x = np.random.default_rng(5).standard_normal((64, 1024)).astype(np.float32)
    outs = [open_lent(threads, awake_us).run(None, {"x": x})[0] for threads in (1, 2, 5)]
    assert all(np.array_equal(outs[0], out) for out in outs[1:])


@needs_kernels
def test_threads_are_there_as_long_as_the_session_and_work():
    def threads_now():
        return {thread.id: thread.user_time for thread in psutil.Process().threads()}

    before, x = threads_now(), np.ones((64, 1024), np.float32)
    session = open_lent(3)
    made = threads_now().keys() - before.keys()
    assert len(made) == 2  # the caller is one of them
    for _ in range(3_000):
        session.run(None, {"x": x})
        spent = threads_now()
        if all(spent[thread] > 0 for thread in made):
            break
    assert all(threads_now()[thread] > 0 for thread in made)
    del session
    assert not threads_now().keys() & made


@needs_kernels
def test_an_idle_session_takes_no_time():
    session, x = open_lent(3, 1_000), np.ones((1, 1024), np.float32)
    for _ in range(20):
        session.run(None, {"x": x})
    spent = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - spent < 0.05
