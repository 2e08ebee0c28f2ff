"""docs/help.md is what the command prints, whatever terminal the tests run in."""

import pytest
import write_help

from moedge.runtime.cli import VERBS


@pytest.mark.parametrize(
    "environment", [{}, {"COLUMNS": "40", "FORCE_COLOR": "1", "MOEDGE_API_KEY": "a-key-that-nobody-may-read"}], ids=str
)
def test_the_page_is_what_the_command_prints(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert write_help.PAGE.read_text(encoding="utf-8") == write_help.render(), "run `make help-pages`"


def test_every_verb_has_a_section_within_80_columns():
    page = write_help.PAGE.read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## moedge",
        *(f"## moedge {verb}" for verb in VERBS),
    ]
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page
