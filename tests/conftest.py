"""Fixtures that several test files share."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from hub_server import running_hub
from hypothesis import Phase, settings
from live_server import CHAT, Connection, Running
from tiny_bundle import engine_that_says

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.runtime.cli import main
from moedge.runtime.scheduler import Scheduler

settings.register_profile("moedge", deadline=None)  # no test fails on time
settings.load_profile("moedge")
# To benchmarks/mutants.py an example that fails is enough; the smallest one can take minutes.
settings.register_profile("mutants", deadline=None, phases=(Phase.explicit, Phase.generate))


@pytest.fixture
def serve():
    services = []

    def serve(engine=None, guard=None, **settings):
        service = Service()
        service.open(engine or FakeEngine(), **settings)
        services.append((engine, service))
        return create_app(service, guard or Guard()).test_client()

    yield serve
    for engine, service in services:
        if isinstance(engine, FakeEngine):
            engine.gate.set()
        service.close()


@pytest.fixture
def engine(tmp_path):
    return engine_that_says(tmp_path, "hello wörld!")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """moedge's wheel for any machine, built from a copy of the folders, so that nothing is left among them."""
    root, made = Path(__file__).parents[1], tmp_path_factory.mktemp("wheel")
    for folder in ("devices", "quant", "export", "runtime", "edge_server"):
        shutil.copytree(root / folder, made / "tree" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(root / name, made / "tree")
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    words = [sys.executable, "-c", build, str(made)]
    environ = os.environ | {"CXX": "no-compiler"}  # tests/test_kernel_build.py has the wheels with the library
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=made / "tree", env=environ)
    return made / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A sharded checkpoint, with everything beside it that repositories hold and an export does not need."""
    import tiny_models as tiny  # torch is for those tests that ask for it

    folder = tmp_path_factory.mktemp("published") / "tiny"
    tiny.save_checkpoint(tiny.qwen3_moe(), folder, 0, shard="300KB")
    for name in (
        *("modeling_tiny.py", "pytorch_model.bin", "tiny.gguf", "README.md", "extra.safetensors"),
        *("onnx/model.onnx", "onnx/config.json", "original/consolidated.00.pth", "original/tokenizer.model"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"raise SystemExit('never run')\n")
    return folder


@pytest.fixture
def shards(published):
    return sorted(path.name for path in published.glob("model-*.safetensors"))


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    """A hub with the model org/tiny that this process takes for the real one, and a cache that nobody has used."""
    from huggingface_hub import constants

    with running_hub() as hub:
        hub.publish("org/tiny", published)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield hub


@pytest.fixture
def refused(hub, tmp_path, capfd):
    """Run the export of a name; it fails with one sentence that has all of `words`, and leaves nothing."""

    def refused(name, *words):
        before = sorted(tmp_path.iterdir())
        capfd.readouterr()
        assert main(["export", name, "-o", str(tmp_path / "bundle")]) == 1
        out, err = capfd.readouterr()
        line = err.strip().splitlines()[-1]
        assert out == ""
        assert line.startswith("moedge: ")
        assert line.endswith(".")
        assert not [word for word in words if word not in line], line
        assert set(tmp_path.iterdir()) - set(before) <= {tmp_path / "cache"}
        assert not list((tmp_path / "cache").rglob("*.py"))

    return refused


@pytest.fixture
def broken(hub, published, tmp_path):
    """Publish a copy of the model as org/broken; the folder, to be changed before anything is asked for."""
    folder = shutil.copytree(published, tmp_path / "broken")
    hub.publish("org/broken", folder)
    return folder


@pytest.fixture
def start():
    """Makes schedulers over fake engines, and closes them."""
    started = []

    def start(engine, **settings):
        started.append((engine, Scheduler(engine, **settings)))
        return started[-1][1]

    yield start
    for engine, scheduler in started:
        engine.gate.set()
        scheduler.close()


@pytest.fixture
def run():
    running = []

    def run(engine, max_running=2, max_queued=4, drain_seconds=5.0):
        running.append(Running(engine, max_running, max_queued, drain_seconds))
        return running[-1]

    yield run
    for each in running:
        each.stop()


@pytest.fixture
def ask():
    with ExitStack() as opened:

        def ask(port, body=CHAT, path="/v1/chat/completions", **headers):
            connection = Connection(port, opened)
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
            return connection

        yield ask


@pytest.fixture(scope="module")
def example_on_path():
    """The example's scripts import each other by bare names, and leave none of them behind."""
    example = Path(__file__).parents[1] / "examples" / "edge_assistant"
    sys.path.insert(0, str(example))
    yield
    sys.path.remove(str(example))
    for file in example.glob("*.py"):
        sys.modules.pop(file.stem, None)
