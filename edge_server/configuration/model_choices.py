"""From the options of `serve` to which models it shall serve, and how: nothing is opened, nothing loaded."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from moedge.devices.errors import MoedgeError
from moedge.edge_server.configuration.configuration import ModelTable, configuration_of, near_names
from moedge.edge_server.models.model_settings import ModelChoice, ModelSettings
from moedge.runtime.chat.wishes import read_wishes

MEBIBYTE = 1 << 20


def model_choices(context: typer.Context) -> tuple[ModelChoice, ...]:
    """The bundles of the command line, or else of the file's [[models]].

    MoedgeError if there is none, for names that are not as many as bundles, or an option that needs another one.
    """
    options, found = context.params, configuration_of(context)
    if options["cache_dir_mib"] is not None and options["cache_dir"] is None:
        raise MoedgeError(
            "--cache-dir-mib bounds what --cache-dir keeps, and no folder is set: name one, or set neither."
        )
    tables = tuple(ModelTable(str(path)) for path in options["bundles"] or ())
    folder = Path()
    if not tables:
        tables, folder = found.models, found.folder
    if not tables:
        raise MoedgeError("no model is to be served: name bundle folders, or [[models]] in a --config file.")
    names: list[str] = options["served_name"] or []
    if len(names) not in (0, len(tables)):
        raise MoedgeError(f"there are {len(names)} --served-name and {len(tables)} models: give one a model, in order.")
    return tuple(
        ModelChoice(
            folder / Path(table.path).expanduser(),
            _settings({**options, **_over(context, table)}, table.sampling),
            names[place] if names else table.name,
            table.aliases,
        )
        for place, table in enumerate(tables)
    )


def warn_of_unknown_variables(context: typer.Context, prefix: str) -> None:
    """A warning on stderr for each environment variable that is nearly the name of an option."""
    known = {f"{prefix}_{param.name}".upper() for param in context.command.params}
    for name in sorted(os.environ):
        if name.startswith(f"{prefix}_") and name not in known and (near := near_names(name, sorted(known))):
            typer.echo(f"warning: {name} is no option of `moedge serve`; did you mean {near[0]}?", err=True)


def _over(context: typer.Context, table: ModelTable) -> Mapping[str, Any]:
    """What a table says, but for what a flag or the environment does: they come before the file."""
    return {key: value for key, value in table.options.items() if source_of(context, key) not in BEFORE_THE_FILE}


BEFORE_THE_FILE = ("COMMANDLINE", "ENVIRONMENT")


def source_of(context: typer.Context, name: str) -> str:
    """Who gave an option its value: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP, which is the file, or DEFAULT."""
    source = context.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def _settings(options: Mapping[str, Any], sampling: Mapping[str, float]) -> ModelSettings:
    return ModelSettings(
        device=options["device"],
        allow_slow=options["allow_slow"],
        allow_low_memory=options["allow_low_memory"],
        check_hashes=options["check_hashes"],
        max_running=options["max_running"] or 0,
        max_queued=options["max_queued"],
        stalled_after_s=options["stalled_after_s"],
        wishes=read_wishes(options["reasoning_effort"], options["chat_template_kwargs"]),
        prompt_lookup_num_tokens=options["prompt_lookup_num_tokens"],
        sampling=sampling,
        prefix_cache_bytes=_bytes(options["prefix_cache_mib"]),
        cache_dir=options["cache_dir"],
        cache_dir_bytes=_bytes(options["cache_dir_mib"]),
    )


def _bytes(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * MEBIBYTE
