"""The endpoint under load and faults; each test adds rows to a table, printed and kept as build/reliability.json.

`make test-load` names the bundle and runs it; nothing of this is in `make test`. What must never happen fails a test,
a figure that misses its target is told as missed: it belongs to the machine, too.
"""

import json
import os
import platform
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from served import Served

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks")]  # of what all tests share


@dataclass(frozen=True)
class Row:
    """What was tried, what is wanted, what was found, and whether that is enough."""

    fault: str
    method: str
    target: str
    measured: str
    met: bool


ROWS: list[Row] = []
KEPT = ROOT / "build" / "reliability.json"
MACHINE = f"{os.cpu_count()}-core {platform.machine()}"


@pytest.fixture
def row():
    """Adds a row to the table."""

    def add(*parts: str | bool) -> None:
        ROWS.append(Row(*parts))
        keep()  # at once, so that a run that is cut off has told what it found

    return add


@pytest.fixture(scope="session")
def bundle() -> Path:
    return Path(os.environ["BUNDLE"]).resolve()


@pytest.fixture
def serve(bundle, tmp_path):
    """Starts servers of the bundle, each a process of its own, and ends them."""
    running = []

    def serve(*options: str) -> Served:
        running.append(Served(bundle, tmp_path / f"server-{len(running)}.log", options))
        return running[-1]

    yield serve
    for served in running:
        served.stop()


@pytest.fixture(scope="session", autouse=True)
def descriptors():
    """As many as a thousand connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def keep() -> None:
    """Write what was found so far."""
    KEPT.parent.mkdir(exist_ok=True)
    machine = {"machine": MACHINE, "load_average": os.getloadavg()[1]}
    told = {"date": time.strftime("%Y-%m-%d"), **machine, "rows": [asdict(row) for row in ROWS]}
    KEPT.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section(f"Reliability, {MACHINE}, load average {os.getloadavg()[1]:.1f}")
    terminalreporter.write_line("| fault | method | target | measured | |\n|---|---|---|---|---|")
    for row in ROWS:
        met = "" if row.met else "**missed**"
        terminalreporter.write_line(f"| {row.fault} | {row.method} | {row.target} | {row.measured} | {met} |")
    terminalreporter.write_line(f"kept as {KEPT}")
