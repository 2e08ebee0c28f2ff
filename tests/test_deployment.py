"""What docs/deploy/ has for systemd, containers and the --config file, held against the program; no disk is needed."""

import configparser
import http.client
import inspect
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from tiny_bundle import write_tiny_bundle

from moedge.edge_server.commands import serve
from moedge.edge_server.configuration.option_kinds import read_kinds
from moedge.runtime.cli import main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "deploy"
OPTIONS = read_kinds(serve.__annotations__)
ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def unit(tmp_path):
    """The unit as it would be where moedge is installed."""
    text = (FOLDER / "moedge.service").read_text(encoding="utf-8")
    path = tmp_path / "moedge.service"
    path.write_text(text.replace("/opt/moedge/bin/moedge", sys.executable), encoding="utf-8")
    return path


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed: apt install systemd")
def test_systemd_takes_the_unit_and_finds_it_hardened(unit):
    done = subprocess.run([ANALYZE, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    words = [
        ANALYZE,
        "security",
        "--offline=true",
        "--threshold=20",
        "--no-pager",
        unit,
    ]  # of 100, as exposed as can be
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_unit_stops_later_than_answers_do_and_says_options_that_there_are():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(FOLDER / "moedge.service", encoding="utf-8")
    service = parser["Service"]
    assert int(service["TimeoutStopSec"]) > inspect.signature(serve).parameters["drain_seconds"].default
    assert service["Restart"] == "on-failure"
    _, *words = service["ExecStart"].split()
    assert words[0] == "serve"
    assert {word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")} <= set(OPTIONS)
    assert moedge_variables(service["Environment"]) == {"api_key_file", "cache_dir"}


def moedge_variables(text):
    found = {name.lower() for name in re.findall(r"\bMOEDGE_([A-Z_]+)=", text)}
    assert found <= set(OPTIONS)
    return found


def instructions():
    """The Dockerfile's, by stage."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stages = [[]]
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, rest = line.split(maxsplit=1)
            if word == "FROM":
                stages.append([])
            stages[-1].append((word, rest))
    return stages


def test_the_image_is_slim_runs_as_nobody_and_has_all_that_is_installed():
    _, build, image = instructions()
    for stage in (build, image):
        assert re.fullmatch(r"python:\$\{PYTHON\}-slim( AS build)?", stage[0][1])  # a plain name, of no host
    copied = {source for word, rest in build if word == "COPY" for source in rest.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    assert {f"{folder.split('/')[0]}/" for folder in folders} <= copied
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE"} <= copied
    said = dict(image)
    assert said["USER"] == "10001:10001"
    assert [word for word, _ in image if word == "RUN"] == ["RUN"]  # nothing is installed beside what was built
    assert json.loads(said["ENTRYPOINT"]) == ["moedge", "serve"]
    assert moedge_variables(said["ENV"]) == {"host", "port"}


def test_the_health_check_is_that_of_a_server_that_is_ready(run):
    _, _, image = instructions()
    python, *words = json.loads(dict(image)["HEALTHCHECK"].partition("CMD ")[2])
    assert python == "python"
    running = run(FakeEngine())
    environ = {**os.environ, "MOEDGE_PORT": str(running.port)}

    def check():
        return subprocess.run([sys.executable, *words], capture_output=True, check=False, env=environ).returncode

    assert check() == 0
    loaded, running.service._residents = running.service._residents, None  # as while a model is loaded
    assert check() != 0
    running.service._residents = loaded


def test_the_example_configuration_is_one(capsys):
    example = FOLDER / "moedge.toml"
    assert main(["serve", "--config", str(example), "--print-config"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    given = tomllib.loads(example.read_text(encoding="utf-8"))
    models = given.pop("models")
    assert given == {key: printed[key] for key in given}
    assert [each["name"] for each in printed["models"]] == [each["name"] for each in models]
    assert "api_key" not in given


@pytest.fixture
def without_disk(tmp_path):
    """A server that can write to no file, whose home and folder of temporary files are not there; its port."""
    home = tmp_path / "home"
    home.mkdir()
    bundle = write_tiny_bundle(tmp_path / "toy")
    environ = {"HOME": str(home), "TMPDIR": "/nonexistent", "PATH": os.environ["PATH"], "MOEDGE_PORT": "0"}
    words = [sys.executable, "-m", "moedge.runtime", "serve", bundle]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    with process:
        yield int(re.search(r":(\d+)/v1", process.stdout.readline())[1])
        process.terminate()
        assert process.wait(20) == 0
    assert list(home.iterdir()) == []  # onnxruntime would have left an identifier there


def test_nothing_is_written_to_any_disk_however_large_a_body_is(without_disk):
    for content, status in (("hi", 200), ("hello " * 200_000, 400)):
        with closing(http.client.HTTPConnection("127.0.0.1", without_disk, timeout=20)) as connection:
            body = json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": 2})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == status, answer
    assert answer["error"]["code"] == "context_length_exceeded"
