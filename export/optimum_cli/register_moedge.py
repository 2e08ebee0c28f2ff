"""`optimum-cli export moedge ...` is `moedge export ...`: one set of options, read from the verb itself.

optimum imports every file of the namespace `optimum.commands.register`, as which this folder is installed, whenever its
command starts, so nothing heavy is imported here. Nobody else imports it.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

import typer
from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from moedge.export.commands import export
from moedge.runtime.cli import main


class MoedgeExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]
    """The words that optimum has parsed, handed over to `moedge export`, which parses them for itself."""

    COMMAND = CommandInfo("moedge", "Export Mixture-of-Experts models to quantized ONNX for small CPUs.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Give optimum's parser the verb's options; what their values may be is left to the verb."""
        parser.description = export.__doc__
        for parameter in _parameters():
            if parameter.param_type_name == "argument":
                parser.add_argument(parameter.name, metavar=parameter.metavar, help=_literal(parameter.help))
            elif parameter.is_flag:
                parser.add_argument(*parameter.opts, dest=parameter.name, action="store_true", help=_help(parameter))
            else:
                parser.add_argument(
                    *parameter.opts,
                    dest=parameter.name,
                    required=parameter.required,
                    action="append" if parameter.multiple else "store",
                    metavar=parameter.name.upper(),
                    help=_help(parameter),
                )

    def run(self) -> None:
        """Run the verb, and exit as it does."""
        sys.exit(main(["export", *words(vars(self.args))]))


def words(values: Mapping[str, Any]) -> list[str]:
    """The command line that has these values, by the names of the verb's parameters."""
    options: list[str] = []
    arguments: list[str] = []
    for parameter in _parameters():
        value = values[parameter.name]
        if parameter.param_type_name == "argument":
            arguments.append(value)
        elif parameter.is_flag:
            options += [parameter.opts[-1]] if value else []
        elif value is not None:
            options += [f"{parameter.opts[-1]}={one}" for one in (value if parameter.multiple else [value])]
    return [*options, "--", *arguments]


def _parameters() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(export)
    return list(typer.main.get_command(app).params)


def _help(parameter: Any) -> str:
    default = parameter.default
    shown = f" [default: {default}]" if isinstance(default, str | int) and not parameter.is_flag else ""
    return _literal(f"{parameter.help}{shown}")


def _literal(text: str) -> str:
    return text.replace("%", "%%")  # argparse formats its help texts


REGISTER_COMMANDS = [(MoedgeExportCommand, ExportCommand)]
