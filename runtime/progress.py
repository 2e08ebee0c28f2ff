"""Progress in bytes on stderr, for work on files of many gigabytes: a bar in a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BIG_BYTES = 256 << 20  # below this the work is over before a bar can be read
LINE_SECONDS = 10.0  # between the lines of a log


@contextmanager
def bytes_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (bytes done, bytes in all), from any thread.

    The bar shows up with the first call about big files and goes when all is done, or with the context. The lines of
    a log come every LINE_SECONDS.
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

    def show(done: int, total: int) -> None:
        if total >= BIG_BYTES:
            bar.start()
            bar.update(task, completed=done, total=total)
            if done >= total:
                bar.stop()

    try:
        yield show
    finally:
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
