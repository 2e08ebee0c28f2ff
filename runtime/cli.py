"""The command `moedge`: a table of verbs, each loaded only when it is called, and the one place that prints errors."""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click
import typer
from typer.core import TyperGroup

from moedge.devices.errors import MoedgeError

# verb: (module that holds a function of that name, one line of help)
VERBS = {
    "export": ("moedge.export.commands", "Convert a checkpoint into a quantized ONNX bundle."),
    "inspect": ("moedge.runtime.commands", "Show what a bundle holds: model, bits a tensor group, sizes."),
    "verify": ("moedge.runtime.commands", "Check every file of a bundle against its manifest."),
    "run": ("moedge.runtime.commands", "Answer one prompt, or chat in the terminal."),
    "serve": ("moedge.edge_server.commands", "Serve a bundle over HTTP."),
    "devices": ("moedge.devices.commands", "List device profiles and what was detected here."),
}
EXTRA_OF = {"onnx": "export", "onnx_ir": "export", "safetensors": "export", "ml_dtypes": "export"}


class LazyVerbs(TyperGroup):
    """A group whose verbs are imported on use: `moedge --help` loads no stage, `moedge serve` no exporter."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb's own command, or for the group's help page a stand-in that carries the one line."""
        if name not in VERBS:
            return None
        module, line = VERBS[name]
        if ctx.invoked_subcommand is None and not ctx.args and not _names_a_verb():
            return click.Command(name, help=line)
        return _load(name, module, line)


def _names_a_verb() -> bool:
    return any(word in VERBS for word in sys.argv[1:])


def _load(name: str, module: str, line: str) -> click.Command:
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command(name)(getattr(import_module(module), name.replace("-", "_")))
    return typer.main.get_command(app)
