"""The command `moedge`: a table of verbs, each loaded only when it is called.

It names the other stages only as strings, so that `moedge serve` on a device never imports the exporter and
`moedge --help` imports no stage at all. How errors become sentences and exit codes is in failures.py.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from moedge.runtime.failures import report


@dataclass(frozen=True)
class Verb:
    """A verb's function has the verb's name and stands in `module`; `line` is its line on the help page.

    With an `environment`, each option is also a variable of that name, an underscore and the option's own.
    """

    module: str
    line: str
    environment: str | None = None


VERBS = {
    "export": Verb("moedge.export.commands", "Convert a checkpoint into a quantized ONNX bundle."),
    "plan": Verb("moedge.export.planning.commands", "Say whether a model fits a device, and how fast it will answer."),
    "families": Verb("moedge.export.commands", "List the model families that can be exported."),
    "eval": Verb("moedge.export.evaluation.commands", "Measure how well a bundle keeps to its checkpoint."),
    "inspect": Verb("moedge.runtime.commands", "Show what a bundle holds: model, bits a tensor group, sizes."),
    "verify": Verb("moedge.runtime.commands", "Check every file of a bundle against its manifest."),
    "run": Verb("moedge.runtime.commands", "Answer one prompt, or chat in the terminal."),
    "bench": Verb("moedge.runtime.bench.commands", "Measure how fast a bundle runs on this machine."),
    "serve": Verb("moedge.edge_server.commands", "Serve bundles over HTTP.", environment="MOEDGE"),
    "profile": Verb("moedge.runtime.profiling.commands", "Measure this machine: a device profile, and a report."),
    "devices": Verb("moedge.devices.commands", "List device profiles and what was detected here."),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run `moedge` with `words` (default: the program's arguments) and return the exit code: 0, 1, 2 or 130."""
    given = list(sys.argv[1:] if words is None else words)
    words, debug = _without_debug(given)
    verb = next((word for word in words if not word.startswith("-")), "")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to stop
    try:
        result = _command(verb)(words, prog_name="moedge", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return report(error, verb, debug)
    return result if isinstance(result, int) else 0


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """`--debug` may stand anywhere before a `--`, so it is taken out before the words are parsed."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _command(verb: str) -> Callable[..., Any]:
    """The command with `verb` loaded; the other verbs are stand-ins that only have a line of help."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,  # plain help pages: rich alone would take longer to import than all the rest
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True, help="Mixture-of-Experts language models on CPUs.")(_moedge)
    for name, entry in VERBS.items():
        if name == verb:
            settings = {"auto_envvar_prefix": entry.environment}
            app.command(name, cls=_command_class(), context_settings=settings, short_help=entry.line)(
                _load(name, entry)
            )
        else:
            app.command(name, short_help=entry.line)(_stand_in)
    return typer.main.get_command(app)


def _load(name: str, entry: Verb) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(entry.module), name)
    return function


def _command_class() -> type[TyperCommand]:
    from moedge.runtime.option_panels import PanelledCommand  # what no other verb's line of help needs

    return PanelledCommand


def _stand_in() -> None:
    raise AssertionError("only the verb that was named is ever called")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"moedge {version('moedge')}")
        raise typer.Exit


def _moedge(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback; may stand anywhere.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
