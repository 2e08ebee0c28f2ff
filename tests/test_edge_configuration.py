"""Options of `moedge serve` by flag, environment and file, in that order; what is wrong in a file; --print-config."""

import os
import tomllib
from pathlib import Path

import pytest

from moedge.edge_server import startup
from moedge.edge_server.configuration.printed_configuration import toml_value
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.cli import main

EVERY_OPTION = """
host = "0.0.0.0"
port = 9000
api_key = ["correct-horse-1", "correct-horse-2"]
api_key_file = "keys"
allow_host = ["pi.lan"]
cors_origin = ["https://chat.example"]
served_name = ["own"]
alias = ["gpt=own"]
device = "generic-x86_64"
check_hashes = false
allow_slow = true
allow_low_memory = true
preload = "none"
load_wait_s = 5
unload_after_s = 600
prefix_cache_mib = 64
cache_dir = "kept"
cache_dir_mib = 1024
max_running = 3
max_queued = 4
stalled_after_s = 60.5
reasoning_effort = "low"
chat_template_kwargs = { thinking = false }
prompt_lookup_num_tokens = 7
drain_seconds = 1
log_format = "json"
[[models]]
path = "bundles/a"
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in os.environ:
        if name.startswith("MOEDGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def told(monkeypatch):
    """What a command line would serve: choices, aliases and settings."""

    def told(*words):
        found = []
        monkeypatch.setattr(startup, "run", lambda *arguments: found.append(arguments))
        assert main(["serve", *map(str, words)]) == 0
        return found[0]

    return told


@pytest.fixture
def refused(capsys):
    def refused(*words):
        capsys.readouterr()
        code = main(["serve", *map(str, words)])
        output = capsys.readouterr()
        assert (code, output.out) == (1, ""), output
        assert output.err.count("\n") == 1
        assert output.err.startswith("moedge: ")
        return output.err.strip()

    return refused


@pytest.fixture
def file(tmp_path):
    def file(text, mode=0o600):
        path = tmp_path / "moedge.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return file


def test_a_flag_comes_before_the_environment_the_file_and_the_default(told, file, monkeypatch):
    config = file("max_running = 5\nmax_queued = 6\nport = 9001\n")
    words = ["a", "--config", config]
    (choice,), _, settings = told(*words, "--max-running", 7)
    assert (choice.settings.max_running, choice.settings.max_queued, settings.port) == (7, 6, 9001)
    monkeypatch.setenv("MOEDGE_MAX_RUNNING", "8")
    monkeypatch.setenv("MOEDGE_PORT", "9002")
    (choice,), _, settings = told(*words, "--max-running", 7)
    assert (choice.settings.max_running, choice.settings.max_queued, settings.port) == (7, 6, 9002)
    (choice,), _, settings = told(*words)
    assert (choice.settings.max_running, choice.settings.stalled_after_s, settings.host) == (8, 600, "127.0.0.1")


def test_every_option_can_stand_in_the_file(told, file, capsys):
    config = file(EVERY_OPTION)
    assert main(["serve", "--config", str(config), "--print-config"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    given = tomllib.loads(EVERY_OPTION)
    hidden = {"api_key", "served_name"}  # the name stands in the model's table
    assert set(printed) == set(given) - hidden
    assert "correct-horse" not in str(printed)
    assert printed["models"] == [{"path": str(config.parent / "bundles" / "a"), "name": "own"}]
    (choice,), aliases, settings = told("--config", config)
    assert choice.folder == config.parent / "bundles" / "a"
    assert (choice.name, aliases) == ("own", ("gpt=own",))
    assert choice.settings.wishes == Wishes("low", {"thinking": False})
    assert (choice.settings.prefix_cache_bytes, choice.settings.cache_dir_bytes) == (64 << 20, 1024 << 20)
    assert choice.settings.cache_dir == config.parent / "kept"
    assert settings.api_keys == ("correct-horse-1", "correct-horse-2")
    assert settings.api_key_file == config.parent / "keys"
    assert settings.load_wait_s == 5.0


def test_every_option_is_an_environment_variable(told, file, capsys, monkeypatch):
    given = tomllib.loads(EVERY_OPTION)
    given["chat_template_kwargs"] = '{"thinking": false}'
    for name, value in given.items():
        if name != "models":
            text = " ".join(value) if isinstance(value, list) else str(value)
            monkeypatch.setenv(f"MOEDGE_{name.upper()}", text)
    monkeypatch.setenv("MOEDGE_BUNDLES", "/srv/a")
    (choice,), aliases, settings = told()
    assert (choice.folder, choice.name, aliases) == (Path("/srv/a"), "own", ("gpt=own",))
    assert (choice.settings.check_hashes, choice.settings.allow_slow) == (False, True)
    assert settings.api_keys == ("correct-horse-1", "correct-horse-2")
    assert main(["serve", "--print-config"]) == 0
    output = capsys.readouterr()
    assert output.out.count("  # environment") == len(given) - 2  # the name stands in a table, like the bundle
    assert "correct-horse" not in output.out + output.err
    monkeypatch.setenv("MOEDGE_SERVED_NAME", "a b")
    monkeypatch.setenv("MOEDGE_BUNDLES", f"/srv/a{os.pathsep}/srv/b")
    choices, _, _ = told()
    assert [(each.folder, each.name) for each in choices] == [(Path("/srv/a"), "a"), (Path("/srv/b"), "b")]


def test_the_environment_names_the_file_too(told, file, monkeypatch):
    monkeypatch.setenv("MOEDGE_CONFIG", str(file("port = 9003\n[[models]]\npath = '/srv/a'\n")))
    (choice,), _, settings = told()
    assert (choice.folder, settings.port) == (Path("/srv/a"), 9003)


def test_a_variable_that_is_nearly_an_option_is_told(told, monkeypatch, capsys):
    monkeypatch.setenv("MOEDGE_PROT", "9000")
    monkeypatch.setenv("MOEDGE_SERVICE_HOST", "10.0.0.1")  # of somebody else, in a cluster
    monkeypatch.setenv("MOEDGE_ISA", "avx2")
    told("a")
    assert capsys.readouterr().err == (
        "warning: MOEDGE_PROT is no option of `moedge serve`; did you mean MOEDGE_PORT?\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("MOEDGE_PORT", "tcp://10.0.0.1:80"), ("MOEDGE_ALLOW_SLOW", "perhaps"), ("MOEDGE_MAX_RUNNING", "0")],
)
def test_what_is_wrong_in_the_environment_is_told_by_its_name(monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert main(["serve", "a"]) == 2
    assert capsys.readouterr().err.startswith(f"moedge: Invalid value for {name}: ")


def test_what_is_printed_gives_the_same_again(told, file, capsys, tmp_path):
    """Names with all that TOML must escape, and tables that say more than the options."""
    config = file(
        "max_queued = 3\n[[models]]\npath = 'a \"b\\'\nname = \"\\u007f \\u0000é😀\\n\"\naliases = ['x', 'y']\n"
        "max_running = 1\ntop_k = 5\ntemperature = 0.5\nchat_template_kwargs = {a = [1, {b = 'c'}]}\n"
        "[[models]]\npath = '/b'\nreasoning_effort = 'high'\n"
    )
    assert main(["serve", "--config", str(config), "--print-config"]) == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert told("--config", again) == told("--config", config)


def test_print_config_says_who_said_so_and_needs_no_bundle(file, capsys, monkeypatch):
    config = file("port = 9000\n")
    monkeypatch.setenv("MOEDGE_MAX_QUEUED", "5")
    monkeypatch.setenv("MOEDGE_API_KEY", "correct-horse")
    assert main(["serve", "nowhere", "--config", str(config), "--max-running", "3", "--print-config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "max_running = 3  # command line" in lines
    assert "max_queued = 5  # environment" in lines
    assert "port = 9000  # file" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert "# api_key is not shown  # environment" in lines
    assert "# cache_dir is not set" in lines
    assert f"path = {toml_value(Path('nowhere').absolute())}" in lines


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("port = 1\nprot = 2\n", " line 2", "prot is no option of it: did you mean port"),
        ("max-running = 2\n", " line 1", "max-running is no option of it: did you mean max_running"),
        ("[sevrer]\nport = 1\n", " line 1", "sevrer is no section of it: there are alias, "),
        ("port = '8080'\n", " line 1", "port is '8080': write a whole number"),
        ("port = true\n", " line 1", "port is True: write a whole number"),
        ("port = 1.0\n", " line 1", "port is 1.0: write a whole number"),
        ("\nport = 65536\n", " line 2", "port is 65536: write a whole number, 0 or more, at most 65535"),
        ("allow_slow = 1\n", " line 1", "allow_slow is 1: write true or false"),
        ("drain_seconds = nan\n", " line 1", "drain_seconds is nan: write a number, 0 or more"),
        ("drain_seconds = -1\n", " line 1", "drain_seconds is -1: write a number, 0 or more"),
        ("allow_host = 'pi.lan'\n", " line 1", "allow_host is 'pi.lan': write a list, [...], each a text in quotes"),
        ("allow_host = [1]\n", " line 1", "allow_host is [1]: write a list"),
        ("host = ['a']\n", " line 1", "host is ['a']: write a text in quotes"),
        ("preload = 'some'\n", " line 1", "preload is 'some': write one of 'first', 'all', 'none'"),
        ("reasoning_effort = 'hi'\n", " line 1", "reasoning_effort is 'hi': write one of 'none', "),
        ("chat_template_kwargs = {a = 2026-01-01}\n", " line 1", "holds a date or a time"),
        ("config = 'x'\n", " line 1", "config is no option of it"),
        ("bundles = ['x']\n", " line 1", "bundles is no option of it"),
        ("port = 1\nport = 2\n", "", "is not TOML: Cannot overwrite a value (at line 2"),
        ("port = ", "", "is not TOML: Invalid value"),
        ("[models]\npath = 'a'\n", " line 1", "models is written as [[models]], once a model"),
        ("[[models]]\nname = 'a'\n", " line 1", "number 1 has no path"),
        ("[[models]]\npath = 'a'\n[[models]]\npath = 'b'\nnaem = 'c'\n", " line 5", "did you mean name"),
        ("[[models]]\npath = 'a'\nport = 1\n", " line 3", "port is no option of it: "),
        (
            "max_running = 1\n[[models]]\npath = 'a'\nmax_running = 99\n",
            " line 4",
            "write a whole number, 1 or more",
        ),
        ("[[models]]\npath = 'a'\naliases = 'b'\n", " line 3", "aliases is 'b': write a list"),
        ("[[models]]\npath = 5\n", " line 2", "path is 5: write a text"),
        ("[[models]]\npath = 'a'\ntemperature = 3\n", " line 3", "temperature is 3: it must be 0 or more, at most 2"),
        ("[[models]]\npath = 'a'\ntop_k = 1.5\n", " line 3", "top_k is 1.5: it must be a whole number"),
        ("[[models]]\npath = 'a'\npresence_penalty = -3\n", " line 3", "it must be -2 or more, at most 2"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence_with_file_line_and_key(refused, file, text, where, told):
    path = file(text)
    sentence = refused("a", "--config", path)
    assert sentence.startswith(f"moedge: {path}{where}")
    assert told in sentence


def test_files_that_cannot_be_read_are_told(refused, file, tmp_path):
    assert "cannot be read (No such file or directory)" in refused("a", "--config", tmp_path / "none.toml")
    assert "cannot be read (Is a directory)" in refused("a", "--config", tmp_path)
    binary = file("")
    binary.write_bytes(b"\xff")
    assert "it is not UTF-8" in refused("a", "--config", binary)
    assert "more than 1048576 bytes" in refused("a", "--config", file("#" * (1 << 20) + "\n"))
    assert "is not TOML" in refused("a", "--config", file("a = " + "[" * 5000))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_key_that_everybody_can_read_is_refused(refused, told, file, mode):
    text = 'api_key = ["correct-horse"]\n'
    sentence = refused("a", "--config", file(text, mode))
    assert "everybody on this machine" in sentence
    assert "correct-horse" not in sentence
    assert told("a", "--config", file(text, 0o640))[2].api_keys == ("correct-horse",)
    told("a", "--config", file("port = 1\n", mode))  # others hold no secret


def test_names_and_models_must_be_as_many(refused):
    assert "no model is to be served" in refused()
    assert "2 --served-name and 1 models" in refused("a", "--served-name", "x", "--served-name", "y")


def test_a_bound_on_a_folder_that_is_not_set_is_refused(refused, told, file):
    assert "no folder is set" in refused("a", "--cache-dir-mib", "16")
    assert "no folder is set" in refused("a", "--config", file("cache_dir_mib = 16\n"))
    told("a", "--cache-dir", "kept", "--config", file("cache_dir_mib = 16\n"))


def test_a_blank_key_in_the_environment_is_no_wish_for_none(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("MOEDGE_API_KEY", " ")
    assert "the API key is empty" in refused(tmp_path, "--port", "0")
