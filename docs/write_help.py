"""Writes docs/help.md: what `moedge --help` and every verb's `--help` print in a terminal of 80 columns.

`make help-pages` runs it; tests/test_help.py compares.
"""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from moedge.runtime.cli import VERBS, main

PAGE = Path(__file__).with_name("help.md")
HEAD = """# Every verb's `--help`

Written by `make help-pages`; a test compares it with what the command prints.
"""
# What a page depends on besides the program: the terminal's width, colours, and a key that an option would show.
ENVIRONMENT: Mapping[str, str | None] = {
    "COLUMNS": "80", "NO_COLOR": "1", "FORCE_COLOR": None, "TERMINAL_WIDTH": None, "MOEDGE_API_KEY": None,
}  # fmt: skip


def render() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(_section, ([], *([verb] for verb in VERBS)))])


def _section(words: list[str]) -> str:
    command = " ".join(["moedge", *words])
    with _environment(), redirect_stdout(io.StringIO()) as printed:
        code = main([*words, "--help"])
    if code:
        raise AssertionError(f"`{command} --help` ended with {code}")
    return f"## {command}\n\n```text\n{printed.getvalue().strip()}\n```\n"


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    _set(ENVIRONMENT)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
