"""Progress on stderr, in bytes of large files or in steps: a bar in a terminal, else a line now and then."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BIG_BYTES = 256 << 20  # below this the work is over before a bar can be read
LINE_SECONDS = 10.0  # between the lines of a log


@contextmanager
def bytes_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (bytes done, bytes in all), from any thread.

    The bar shows up with the first call about big files and goes when all is done, or with the context: a call after
    that shows nothing. The lines of a log come every LINE_SECONDS.
    """
    if not sys.stderr.isatty():
        yield lines(label, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn(label),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=None)
    lock, closed = threading.Lock(), False

    def show(done: int, total: int) -> None:
        with lock:
            if closed or total < BIG_BYTES:
                return
            bar.start()
            bar.update(task, completed=done, total=total)
            if done >= total:
                bar.stop()

    try:
        yield show
    finally:
        with lock:
            closed = True
            if bar.live.is_started:  # else it prints an empty line where a terminal can do no more
                bar.stop()


def lines(label: str, clock: Callable[[], float]) -> Callable[[int, int], None]:
    """A function like that of `bytes_progress` for a log; `clock` tells seconds."""
    said = clock()

    def show(done: int, total: int) -> None:
        nonlocal said
        if clock() - said >= LINE_SECONDS:
            said = clock()
            print(f"{label}: {done / 2**30:.1f} of {total / 2**30:.1f} GiB", file=sys.stderr, flush=True)

    return show


@contextmanager
def steps_progress(label: str, total: int) -> Iterator[Callable[[str], None]]:
    """A function to call with what begins now, `total` times in all; the same bar, and lines for a log."""
    if not sys.stderr.isatty():
        yield step_lines(label, total, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, now="", completed=-1)

        def show(now: str) -> None:
            bar.update(task, advance=1, now=now)

        yield show


def step_lines(label: str, total: int, clock: Callable[[], float]) -> Callable[[str], None]:
    """A function like that of `steps_progress` for a log; `clock` tells seconds."""
    said, done = clock(), 0

    def show(now: str) -> None:
        nonlocal said, done
        done += 1
        if clock() - said >= LINE_SECONDS:
            said = clock()
            print(f"{label}: {done} of {total}, {now}", file=sys.stderr, flush=True)

    return show
