"""Help pages of verbs with many options: those of one panel stand together under its name."""

from typing import Any

import typer
from typer.core import TyperCommand


class PanelledCommand(TyperCommand):
    """A verb whose options may name a `rich_help_panel`, which typer shows in colours only.

    What is wrong in the environment is told by the variable's name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line and the environment; BadParameter for a value that does not fit."""
        try:
            return list(super().parse_args(ctx, args))
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None)
            source = None if name is None else ctx.get_parameter_source(name)
            if source is not None and source.name == "ENVIRONMENT" and ctx.auto_envvar_prefix:
                error.param_hint = f"{ctx.auto_envvar_prefix}_{name}".upper()
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each panel in the order of its first option; the others stand last."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        others: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                panels["Arguments"].append(record)
            elif panel := getattr(param, "rich_help_panel", None):
                panels.setdefault(panel, []).append(record)
            else:
                others.append(record)
        for title, records in {**panels, "Options": others}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
