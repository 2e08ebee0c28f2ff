"""What `moedge export hf://…` refuses: each with one sentence, and before anything is fetched that need not be."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from moedge.devices.detect import detect
from moedge.devices.errors import MoedgeError
from moedge.export.hub import fit
from moedge.export.hub.fit import Space, refuse_too_large
from moedge.export.hub.name import HubName, parse_name
from moedge.runtime.cli import main

INDEX = "model.safetensors.index.json"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://org/name", HubName("org/name")),
        ("hf://Org-1/Some_Model-2.5", HubName("Org-1/Some_Model-2.5")),
        ("hf://org/name@v1.0", HubName("org/name", "v1.0")),
        ("hf://org/name@refs/pr/3", HubName("org/name", "refs/pr/3")),
        ("some/folder/that/is/not/there", None),
        ("checkpoint", None),
    ],
)
def test_names(text, name):
    assert parse_name(text) == name
    assert name is None or str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hf://name",
            "hf:/org/name",
            "hf:org/name",
            "HF://org/name",
            "hf://org/name/config.json",
            "hf://org/",
            "hf://",
        ),
        *("hf://org/name@", "hf://org/name@../../main", "hf://org/name@a b", "hf://org/name@/main", "hf://org/name@-x"),
        *(
            "hf://../name",
            "hf://org/..",
            "hf://org/a..b",
            "hf://org/a--b",
            "hf://org/.name",
            "hf://org/name.",
            "hf://o g/n",
        ),
        *("hf://org/na%2e", "hf://org/naïve", "hf://org/name?x", "hf://org/name#x", "hf://org/name\n", "hf://org@main"),
        "https://hub.example/org/name",
    ],
)
def test_misspelt_names(text):
    with pytest.raises(MoedgeError, match=r"hf://org/name@revision"):
        parse_name(text)


def test_a_name_without_hf_is_a_folder_that_is_not_there():
    with pytest.raises(MoedgeError, match=r"no folder org/name.*write hf://org/name\."):
        parse_name("org/name")


def test_a_folder_wins(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_name("org/name") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen4_moe"}, ("qwen4_moe", "qwen3_moe")),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, ("bitsandbytes",)),
        ({"hidden_act": "gelu"}, ("hidden_act",)),
        ({"auto_map": {"AutoConfig": "modeling_tiny.Config"}, "model_type": "tiny"}, ("'tiny'",)),
    ],
)
def test_nothing_of_the_weights_is_asked_for_if_the_config_tells(hub, broken, refused, changes, words):
    edit(broken / "config.json", **changes)
    refused("hf://org/broken", *words)
    assert hub.weights() == []


def test_a_broken_config_and_no_tokenizer(hub, broken, refused):
    (broken / "tokenizer.json").unlink()
    refused("hf://org/broken", "hf://org/broken", "tokenizer")
    (broken / "config.json").write_text("{")
    hub.publish("org/broken", broken, commit="b" * 40)
    refused("hf://org/broken", "hf://org/broken/config.json is not valid JSON")
    (broken / "config.json").unlink()
    hub.publish("org/broken", broken, commit="c" * 40)
    refused("hf://org/broken", "hf://org/broken has no config.json")
    assert hub.weights() == []


def test_a_number_format_that_only_the_headers_tell(hub, broken, shards, refused):
    """The headers are asked for, by range; no weight is."""
    tensors = load_file(broken / shards[0])
    name = next(name for name in tensors if name.endswith("proj.weight"))
    save_file(tensors | {name: tensors[name].astype(np.int64)}, broken / shards[0])
    refused("hf://org/broken", name, "I64")
    assert {request.range for request in hub.weights() if "/cdn/" in request.path} == {"bytes=0-100000"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t.update({"v_head.summary.weight": np.ones((1, 64), np.float32)}), "v_head.summary.weight has no"),
        (lambda t: t.pop(min(t)), "is missing"),
        (lambda t: t.update({min(t): np.ones((3, 5), np.float32)}), "has the shape (3, 5) where the config says"),
    ],
)
def test_tensors_that_do_not_belong_to_the_config(hub, broken, shards, refused, edit, said):
    """Missing, misshapen and left-over ones; the index says nothing of what is no longer there."""
    tensors = load_file(broken / shards[1])
    edit(tensors)
    save_file(tensors, broken / shards[1])
    weight_map = {name: shard for shard in shards for name in load_file(broken / shard)}
    (broken / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    refused("hf://org/broken", "hf://org/broken: ", said, "config.json and the tensors do not belong together")
    assert {request.range for request in hub.weights() if "/cdn/" in request.path} == {"bytes=0-100000"}


def free(monkeypatch, count):
    monkeypatch.setattr("moedge.export.hub.fit.shutil.disk_usage", lambda _: type("Usage", (), {"free": count}))


def test_a_disk_too_small_for_the_download(hub, published, shards, refused, monkeypatch):
    size = sum((published / shard).stat().st_size for shard in shards)
    free(monkeypatch, 100_000)
    refused("hf://org/tiny", f"takes {size / 1e6:.1f} MB to fetch, but", "has 0.1 MB free", "HF_HOME")
    assert hub.weights() == []


def test_a_disk_too_small_for_download_and_bundle(hub, published, shards, refused, monkeypatch):
    size = sum((published / shard).stat().st_size for shard in shards)
    free(monkeypatch, size + 50_000)
    monkeypatch.setattr("moedge.export.options.find_library", lambda: None)
    refused(
        "hf://org/tiny",
        " MB to fetch and 0.2 MB for the bundle, but",
        f"has {(size + 50_000) / 1e6:.1f} MB free",
        "--scheme",
    )
    assert {request.range for request in hub.weights() if "/cdn/" in request.path} == {"bytes=0-100000"}


@pytest.mark.parametrize(("same_disk", "fits"), [(True, False), (False, True)])
def test_disks_are_counted_each(tmp_path, monkeypatch, same_disk, fits):
    """80 bytes for the cache and 30 for a bundle whose folder is not there yet, where each disk has 100."""
    cache, bundles = tmp_path / "cache", tmp_path / "bundles"
    for folder in (cache, bundles):
        folder.mkdir()
    free(monkeypatch, 100)
    monkeypatch.setattr(fit, "_disk", lambda folder: 0 if same_disk else folder.name)
    spaces = Space(cache / "hub", 80, "to fetch"), Space(bundles / "a" / "b", 30, "for it")
    if fits:
        refuse_too_large("it", *spaces)
        spaces = replace(spaces[0], nbytes=101), spaces[1]
    with pytest.raises(MoedgeError, match=f"{cache} has"):
        refuse_too_large("it", *spaces)


def test_a_note_if_the_model_outgrows_this_machine(hub, tmp_path, monkeypatch, capfd):
    small = replace(detect(), memory_bytes=100_000, memory_limit_bytes=None)
    monkeypatch.setattr("moedge.export.hub.fetch.detect", lambda: small)
    assert main(["export", "hf://org/tiny", "-o", str(tmp_path / "bundle"), "--experts", "fused"]) == 0
    assert "note: loaded, the weights take about 0.4 MB, and this machine has 0.1 MB" in capfd.readouterr().err


def test_nothing_is_asked_for_if_the_bundle_could_not_be_written(hub, tmp_path, capfd):
    (tmp_path / "bundle").mkdir()
    assert main(["export", "hf://org/tiny", "-o", str(tmp_path / "bundle")]) == 1
    assert "choose another name" in capfd.readouterr().err
    words = ["export", "hf://org/tiny", "-o", str(tmp_path / "other"), "--scheme", "fp32", "--experts", "fused"]
    assert main(words) == 1
    assert hub.log == []


def test_what_the_hub_does_not_show(hub, refused, monkeypatch):
    refused("hf://org/nobody", "no model hf://org/nobody", "set HF_TOKEN")
    hub.repos["org/tiny"].token = "hf_right"
    refused("hf://org/tiny", "no model hf://org/tiny", "set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("hf://org/tiny", "no model hf://org/tiny", "this HF_TOKEN")
    refused(f"hf://org/tiny@{'b' * 40}", "no model hf://org/tiny", "this HF_TOKEN")
    assert hub.weights() == []


def test_gated_and_unknown_revision(hub, refused):
    hub.repos["org/tiny"].gated = True
    refused("hf://org/tiny", "hf://org/tiny is gated", "HF_TOKEN")
    refused("hf://org/tiny@v9", "hf://org/tiny@v9 names no branch, tag or commit")
    refused(f"hf://org/tiny@{'b' * 40}", "names no branch, tag or commit")


@pytest.mark.parametrize(("status", "words"), [(403, "refuses"), (429, "too many"), (500, "answers 500")])
def test_a_hub_that_answers_nothing_useful(hub, refused, status, words, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.down = status
    refused("hf://org/tiny", words)


def test_no_network_and_no_permission_to_use_it(hub, refused, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("hf://org/tiny", "cannot be reached", "check the network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hf://org/tiny", "HF_HUB_OFFLINE forbids")
    assert hub.log == []


def test_offline_with_half_a_model(hub, refused, monkeypatch):
    free(monkeypatch, 100_000)
    refused("hf://org/tiny", "does not fit")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hf://org/tiny", "not completely in the cache", "HF_HUB_OFFLINE forbids")


def test_a_connection_that_never_holds(hub, shards, refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.cuts[shards[1]] = [0] * 20
    refused("hf://org/tiny", "broke off", "run it again")


def test_a_disk_that_fills_up_all_the_same(hub, refused, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "blob")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    refused("hf://org/tiny", "the disk is full", "blob")


def test_a_target_that_cannot_be_reached_is_refused_before_weights_are_fetched(hub, published, tmp_path, capsys):
    words = ["export", "hf://org/tiny", "-o", str(tmp_path / "bundle"), "--target-size", "10kB"]
    assert main(words) == 1
    assert "--target-size 10000 is too small for this model, whose weights take" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
