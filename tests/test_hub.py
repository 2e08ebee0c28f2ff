"""`moedge export hf://…` against a hub on loopback: what is fetched, what is recorded, what works without the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import tiny_models as tiny
from hub_server import Hub, running_hub
from huggingface_hub import constants, file_download

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime.cli import main

NEEDED = {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors.index.json"}

INT4 = ("--scheme", "int4", "--calibration", "none")


def command(hub: Hub, home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, with the hub and the cache told by the environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"} | variables
    words = (sys.executable, "-m", "moedge.export", *words)
    return subprocess.run(words, capture_output=True, text=True, env=environment)


def test_a_model_from_the_hub_is_the_model_from_its_folder(published, shards, tmp_path):
    """The whole way, as a command; again without any hub; both times the bytes of an export of the folder."""
    export_bundle(published, tmp_path / "local", ExportOptions(parse_plan("int4"), "fused"))
    wanted = {
        name: (tmp_path / "local" / name).read_bytes() for name in ("weights.bin", "model.onnx", "tokenizer.json")
    }
    plan, home = (*INT4, "--experts", "fused"), tmp_path / "home"
    with running_hub() as hub:
        hub.publish("org/tiny", published, commit="c" * 40, ref="v1.0")
        done = command(hub, home, "hf://org/tiny@v1.0", "-o", str(tmp_path / "first"), "--json", *plan)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert json.loads(done.stdout)["hub"] == {"repo": "org/tiny", "commit": "c" * 40}
        assert set(hub.asked()) == NEEDED | set(shards)
        assert {request.token for request in hub.log} == {None}
    done = command(hub, home, "hf://org/tiny@v1.0", "-o", str(tmp_path / "second"), *plan, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: routed experts")
    assert len(done.stderr.splitlines()) == 1
    for bundle in (tmp_path / "first", tmp_path / "second"):
        assert {name: (bundle / name).read_bytes() for name in wanted} == wanted
        assert json.loads((bundle / "report.json").read_text())["hub"] == {"repo": "org/tiny", "commit": "c" * 40}
    assert json.loads((tmp_path / "local" / "report.json").read_text())["hub"] is None


def run(target: Path, name: str = "hf://org/tiny") -> int:
    return main(["export", name, "-o", str(target / "bundle"), "--force"])


def test_a_stopped_run_goes_on_with_the_shards_that_are_missing(hub, shards, tmp_path, monkeypatch, capfd):
    """Ctrl-C in the third shard: the two before it are kept, and nothing of them is asked for again."""
    whole = file_download.http_get

    def stopped(url, *given, **named):
        if url.endswith(shards[2]):
            raise KeyboardInterrupt
        whole(url, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", stopped)
        assert run(tmp_path) == 130
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "bundle").exists()
    hub.log.clear()
    assert run(tmp_path) == 0
    assert {request.path.rpartition("/")[2] for request in hub.weights()} == set(shards[2:])


def test_a_transfer_that_breaks_off_goes_on_where_it_was(hub, shards, published, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.cuts[shards[0]] = [70_000]
    assert run(tmp_path) == 0
    transfers = [request.range for request in hub.weights() if "/cdn/" in request.path and shards[0] in request.path]
    assert "bytes=70000-" in transfers
    cached = next(Path(constants.HF_HUB_CACHE).glob(f"*/snapshots/*/{shards[0]}"))
    assert cached.read_bytes() == (published / shards[0]).read_bytes()


def test_a_commit_that_changes_no_weights_fetches_none(hub, shards, published, tmp_path, monkeypatch):
    """The disk may be full by then: nothing is to be fetched."""
    assert run(tmp_path) == 0
    newer = tmp_path / "newer"
    newer.mkdir()
    for path in published.iterdir():
        if path.is_file():
            (newer / path.name).symlink_to(path)
    (newer / "README.md").unlink()
    hub.publish("org/tiny", newer, commit="b" * 40)
    hub.log.clear()
    room_for_the_bundle(monkeypatch)
    assert run(tmp_path) == 0
    assert json.loads((tmp_path / "bundle" / "report.json").read_text())["hub"]["commit"] == "b" * 40
    assert not [request for request in hub.weights() if request.method == "GET" and request.range is None]


def room_for_the_bundle(monkeypatch) -> None:
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("moedge.export.hub.fit.shutil.disk_usage", lambda _: usage)


def test_main_moves_on_and_a_commit_stays(hub, published, tmp_path):
    other = tmp_path / "other"
    tiny.save_checkpoint(tiny.qwen3_moe(), other, 1)
    hub.publish("org/tiny", other, commit="b" * 40)
    for name, commit in (("hf://org/tiny", "b" * 40), (f"hf://org/tiny@{'a' * 40}", "a" * 40)):
        assert run(tmp_path, name) == 0
        assert json.loads((tmp_path / "bundle" / "report.json").read_text())["hub"]["commit"] == commit


def test_the_token_is_sent(hub, tmp_path, monkeypatch):
    hub.repos["org/tiny"].token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run(tmp_path) == 0
    assert {request.token for request in hub.log} == {"hf_secret"}
    text = "".join(path.read_text() for path in (tmp_path / "bundle").glob("*.json"))
    assert "hf_secret" not in text


def test_a_hub_that_is_gone_leaves_what_is_in_the_cache(hub, tmp_path, monkeypatch, caplog):
    assert run(tmp_path) == 0
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port where nobody listens
    hub.log.clear()
    assert run(tmp_path) == 0
    assert "Could not reach the Hub" in caplog.text
    assert hub.log == []
