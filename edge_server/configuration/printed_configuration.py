"""What --print-config prints: every option as TOML, and behind it who said so; a --config file can be made of it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from moedge.edge_server.configuration.configuration import NOT_IN_A_FILE, PER_MODEL, ModelTable, configuration_of
from moedge.edge_server.configuration.model_choices import BEFORE_THE_FILE, source_of
from moedge.edge_server.models.model_settings import ModelChoice

SECRET = ("api_key",)
OF_TABLES = ("served_name",)  # what stands in the tables of models
SOURCES = {"COMMANDLINE": "command line", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file", "DEFAULT": "default"}


def configuration_lines(context: typer.Context, choices: Sequence[ModelChoice]) -> Iterator[str]:
    """The lines; keys are not among them. `choices` are the models that the same options chose."""
    config = context.params["config"]
    yield f"# moedge serve{'' if config is None else f', with the file {config}'}"
    for param in context.command.params:
        name = param.name
        if name is None or name in (*NOT_IN_A_FILE, *OF_TABLES):
            continue
        value, source = context.params[name], SOURCES[source_of(context, name)]
        if name in SECRET and value:
            yield f"# {name} is not shown  # {source}"
        elif value is None or (isinstance(value, list | tuple) and not value):
            yield f"# {name} is not set"
        else:
            yield f"{name} = {toml_value(value)}  # {source}"
    tables = () if context.params["bundles"] else configuration_of(context).models
    for place, choice in enumerate(choices):
        yield ""
        yield "[[models]]"
        yield f"path = {toml_value(choice.folder.absolute())}"
        if choice.name is not None:
            yield f"name = {toml_value(choice.name)}"
        if choice.aliases:
            yield f"aliases = {toml_value(choice.aliases)}"
        yield from _table_lines(context, tables[place]) if tables else ()


def _table_lines(context: typer.Context, table: ModelTable) -> Iterator[str]:
    """What a table says of how its model is loaded and answers."""
    for name in PER_MODEL:
        if name in table.options:
            line = f"{name} = {toml_value(table.options[name])}"
            source = source_of(context, name)
            yield f"# {line}: the {SOURCES[source]} says otherwise" if source in BEFORE_THE_FILE else line
    for name, number in table.sampling.items():
        yield f"{name} = {toml_value(number)}"


def toml_value(value: Any) -> str:
    """A truth value, number, text, path or list of such as TOML writes it, in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        # TOML's escapes are JSON's, but that it wants the last control character escaped too
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml_value, value))}]"
