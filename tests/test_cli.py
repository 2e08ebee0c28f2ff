"""The command: what it loads, what it prints where, and that every failure is one sentence and an exit code."""

import errno
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import typer

from moedge.devices.errors import MoedgeError
from moedge.runtime import cli
from moedge.runtime.cli import VERBS, Verb, main

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "numpy", "flask", "waitress", "rich", "jinja2"),
    *("tokenizers", "cattrs", "psutil", "hypothesis", "pytest"),
}
Capture = pytest.CaptureFixture[str]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


def loaded_by(*words: str) -> tuple[int, set[str]]:
    """Exit code of `moedge WORDS`, and every top-level package and moedge stage that it imported."""
    code = (
        "import sys; from moedge.runtime.cli import main; code = main(sys.argv[1:]); "
        "print('\\nLOADED', code, *{m if m.startswith('moedge.') else m.partition('.')[0] for m in sys.modules})"
    )
    last = python("-c", code, *words).stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return int(last[1]), set(last[2:])


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["verfy"], []])
def test_the_command_itself_loads_no_stage_and_nothing_heavy(words: list[str]) -> None:
    _, modules = loaded_by(*words)
    assert not modules & HEAVY
    stages = {name for name in modules if name.startswith("moedge.") and name.count(".") == 2}
    assert stages == {"moedge.runtime.cli", "moedge.runtime.failures", "moedge.devices.errors"}


def test_verify_needs_neither_onnxruntime_nor_the_exporter(tmp_path: Path) -> None:
    code, modules = loaded_by("verify", str(tmp_path))
    assert code == 1
    assert not modules & {"onnxruntime", "flask", "rich", "jinja2", "onnx", "torch", "moedge.export", "moedge.quant"}


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_a_function_of_its_name_with_help(name: str, capsys: Capture) -> None:
    function = getattr(import_module(VERBS[name].module), name)
    assert inspect.getdoc(function), "its docstring is the verb's help page"
    assert main([name, "--help"]) == 0
    assert f"Usage: moedge {name} " in capsys.readouterr().out


def test_help_names_every_verb(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and verb.line in told for name, verb in VERBS.items())


def test_no_words_are_a_usage_error_that_shows_the_help(capsys: Capture) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Commands:" in told.err


def test_version_is_the_project_s(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"moedge {project['version']}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["verfy", "x"], "Did you mean 'verify'? See `moedge --help`."),
        (["nonsense"], "No such command 'nonsense'. See `moedge --help`."),
        (["verify", "x", "--jsn"], "No such option: --jsn. Did you mean --json? See `moedge verify --help`."),
        (["--versoin"], "Did you mean --version? See `moedge --help`."),
        (["verify"], "Missing argument 'BUNDLE'. See `moedge verify --help`."),
        (["verify", "x", "y"], "See `moedge verify --help`."),
        (["devices", "-x"], "No such option: -x. See `moedge devices --help`."),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_and_exit_code_2(
    words: list[str], told: str, capsys: Capture
) -> None:
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("moedge: ")
    assert output.err.endswith(told + "\n")


@pytest.fixture
def boom(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `moedge boom` raise a given error."""

    def arm(error: BaseException) -> None:
        def boom() -> None:
            """Fail."""
            raise error

        module = ModuleType("boom_commands")
        module.boom = boom
        monkeypatch.setitem(sys.modules, "boom_commands", module)
        monkeypatch.setitem(cli.VERBS, "boom", Verb("boom_commands", "Fail."))

    return arm


FAILURES = [
    (MoedgeError("It is broken:\n  mend it."), "It is broken: mend it."),
    (
        ModuleNotFoundError("", name="onnx_ir.passes"),
        "`moedge boom` needs the export extra: pip install 'moedge[export]'",
    ),
    (ModuleNotFoundError("", name="optimum"), "`moedge boom` needs the optimum extra: pip install 'moedge[optimum]'"),
    (
        ModuleNotFoundError("", name="flask"),
        "`moedge boom` needs the Python module flask, which is not installed: install moedge again.",
    ),
    (MemoryError(), "`moedge boom` ran out of memory: close other programs, or take a smaller model or scheme."),
    (
        OSError(errno.ENOSPC, "No space left on device", "out/weights.bin"),
        "the disk is full (No space left on device) while writing out/weights.bin: "
        "free some space and run `moedge boom` again.",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device"),
        "the disk is full (No space left on device): free some space and run `moedge boom` again.",
    ),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), "`moedge boom` failed: Permission denied: /x."),
    (
        OSError(errno.EADDRINUSE, "Address already in use"),
        "Address already in use: another program listens there, choose another --port.",
    ),
    (typer.Abort(), "stopped."),
    (typer.BadParameter("not so"), "Invalid value: not so. See `moedge boom --help`."),
    (
        KeyError("lost"),
        "`moedge boom` failed with an internal error (KeyError: 'lost'): run it with --debug and report it.",
    ),
]


@pytest.mark.parametrize(("error", "told"), FAILURES, ids=lambda value: type(value).__name__)
def test_every_failure_is_one_sentence_without_traceback(boom, error: Exception, told: str, capsys: Capture) -> None:
    boom(error)
    assert main(["boom"]) == (2 if isinstance(error, typer.BadParameter) else 1)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"moedge: {told}\n")


@pytest.mark.parametrize("words", [["--debug", "boom"], ["boom", "--debug"]])
def test_debug_shows_the_traceback_and_may_stand_anywhere(boom, words: list[str], capsys: Capture) -> None:
    boom(MoedgeError("It is broken."))
    assert main(words) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("moedge: It is broken.\n")


def test_debug_after_two_dashes_is_an_argument_of_the_verb(capsys: Capture) -> None:
    assert main(["verify", "--", "--debug"]) == 1
    assert "There is no bundle folder --debug" in capsys.readouterr().err


def test_exit_codes_of_a_verb_pass_through(boom, capsys: Capture) -> None:
    boom(typer.Exit(3))
    assert main(["boom"]) == 3
    boom(SystemExit(4))
    assert main(["boom"]) == 4
    boom(KeyboardInterrupt())
    assert main(["boom"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "import sys; from moedge.runtime.cli import main; sys.exit(main(['devices', '--json']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("words", [["export", "here", "-o", "there"], ["eval", "b", "--against", "c", "--text", "t"]])
def test_a_missing_extra_is_named_by_the_real_exporter(words: list[str]) -> None:
    block = (
        "import sys; sys.modules['onnx_ir'] = None; from moedge.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = python("-c", block, *words)
    assert done.returncode == 1
    assert done.stderr == f"moedge: `moedge {words[0]}` needs the export extra: pip install 'moedge[export]'\n"


@pytest.mark.parametrize(
    ("module", "words", "told"),
    [
        ("moedge.export", ["--help"], "Usage: moedge export "),
        ("moedge.edge_server", ["--help"], "Usage: moedge serve "),
        ("moedge.devices", ["--help"], "Usage: moedge devices "),
        ("moedge.runtime", ["verify", "--help"], "Usage: moedge verify "),
    ],
)
def test_stages_run_as_modules(module: str, words: list[str], told: str) -> None:
    done = python("-m", module, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout


def test_letters_that_the_terminal_cannot_show_do_not_stop_a_verb() -> None:
    code = (
        "import sys; sys.stdout.reconfigure(encoding='ascii', errors='strict'); "
        "from moedge.runtime import cli, commands; "
        "commands.verify = lambda: print('\\u6df1 deep'); sys.exit(cli.main(['verify']))"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, "? deep\n")


def test_json_of_devices_is_all_that_stands_on_stdout() -> None:
    done = python("-m", "moedge.devices", "--json")
    assert json.loads(done.stdout)[0]["machine"]["cores"] >= 1
