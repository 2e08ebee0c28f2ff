"""`optimum-cli export moedge` is `moedge export`: found by optimum's mechanism, with the same options and results."""

import json
import os
import subprocess
import sys
import zipfile
from argparse import ArgumentParser
from pathlib import Path

import pytest
import typer
from hub_server import running_hub
from optimum.commands import optimum_cli
from optimum.commands.register import register_moedge

from moedge.export.bundle import export_bundle
from moedge.export.commands import export
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan

RUN = "from optimum.commands.optimum_cli import main; import sys; sys.argv[0] = 'optimum-cli'; main()"
WHERE = (
    "import moedge.export.hub.fetch as h, optimum.commands.register.register_moedge as r; print(h.__file__, r.__file__)"
)


def parsed(*words):
    parser = ArgumentParser()
    register_moedge.MoedgeExportCommand.parse_args(parser)
    return vars(parser.parse_args(words))


def verb():
    app = typer.Typer(add_completion=False)
    app.command()(export)
    return typer.main.get_command(app)


def test_installed_from_a_wheel_it_exports_from_the_hub(wheel, published, tmp_path):
    """Without `site`, so that nothing but the wheel's files can give the command."""
    site, bundle = tmp_path / "site", tmp_path / "bundle"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    places = [str(site), *(path for path in sys.path if Path(path).is_dir())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"PYTHONPATH": os.pathsep.join(places), "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    python = (sys.executable, "-S", "-c")
    with running_hub() as hub:
        hub.publish("org/tiny", published)
        words = (
            *python,
            RUN,
            *f"export moedge hf://org/tiny -o {bundle} --scheme int8 --calibration none --context 64 --json".split(),
            *("--experts", "fused"),  # the library is of this checkout, not of the wheel
        )
        environment["HF_ENDPOINT"] = hub.url
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hub"]["repo"] == "org/tiny"
    export_bundle(published, tmp_path / "local", ExportOptions(parse_plan("int8"), "fused", context=64))
    assert (bundle / "weights.bin").read_bytes() == (tmp_path / "local" / "weights.bin").read_bytes()
    where = subprocess.run((*python, WHERE), capture_output=True, text=True, env=environment, check=True)
    assert [path.startswith(str(site)) for path in where.stdout.split()] == [True, True]


def test_it_has_the_options_of_the_verb():
    parser = ArgumentParser(add_help=False)
    register_moedge.MoedgeExportCommand.parse_args(parser)
    options = [option for parameter in verb().params for option in parameter.opts if option.startswith("-")]
    assert sorted(option for action in parser._actions for option in action.option_strings) == sorted(options)
    assert {"--output", "-o", "--scheme", "--experts", "--context", "--force", "--json"} <= set(options)
    text = parser.format_help()
    assert "[default: balanced]" in text
    assert "hf://org/name" in text


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("folder -o bundle", {"checkpoint": "folder", "output": "bundle", "scheme": None, "force": False}),
        ("--force --scheme int8 -o -b- folder --experts if", {"output": "-b-", "scheme": "int8", "force": True}),
        ("folder -o b --group a=int8 --group=b=fp32", {"group": ["a=int8", "b=fp32"], "scheme": None}),
        ("-o b --context=7 --json -- -folder", {"checkpoint": "-folder", "context": 7, "as_json": True}),
    ],
)
def test_what_optimum_has_parsed_is_what_the_verb_parses(given, values):
    words = given.replace(" -b- ", "=-b- ").replace("-o=", "--output=").split()
    context = verb().make_context("export", register_moedge.words(parsed(*words)))
    got = {name: str(value) if name == "output" else value for name, value in context.params.items()}
    assert got == got | values


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nowhere", "-o", "b", "--scheme", "int7"), 1, "did you mean int8"),
        (("nowhere", "-o", "b"), 1, "nowhere is not a folder"),
        (("nowhere", "-o", "b", "--context", "many"), 2, "--context"),
        (("nowhere",), 2, "-o/--output"),
    ],
)
def test_it_fails_as_the_verb_does(words, code, told, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "moedge", *words])
    with pytest.raises(SystemExit) as caught:
        optimum_cli.main()
    assert caught.value.code == code
    assert told in capfd.readouterr().err
