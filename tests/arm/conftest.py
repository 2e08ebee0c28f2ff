"""The boards, what was run on them, and at the end a table of what was found. `make test-arm` makes their root."""

import os
from pathlib import Path

import pytest
from boards import BOARDS, Board
from runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Of all programs; the first test waits for the first of them."""
    bundle, debian = Path(os.environ["BUNDLE"]).resolve(), Path(os.environ["ARM"]).resolve() / "root"
    runs = Runs(bundle, debian, tmp_path_factory.mktemp("arm"))
    yield runs
    runs.close()


@pytest.fixture(params=BOARDS, ids=lambda board: board.cpu)
def board(request) -> Board:
    return request.param


@pytest.fixture
def fact(board, record_property):
    """Puts a line into the table."""
    return lambda what, found: record_property("fact", (board.name, what, found))


def pytest_terminal_summary(terminalreporter):
    """The table, with a column a board."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    told = [value for report in reports for key, value in report.user_properties if key == "fact"]
    found = {(what, board): text for board, what, text in told}
    names = [board.name for board in BOARDS]
    rows = [
        [what, *(found.get((what, name), "") for name in names)] for what in dict.fromkeys(each[1] for each in told)
    ]
    rows = [["", *names], ["---"] * (len(names) + 1), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("What was found on the boards")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("| " + " | ".join(cells) + " |")
