"""Bundles of somebody who can make hashes too: a sample of what `make test-load` tries by the thousand."""

import json
from pathlib import Path

import onnx
import pytest
from bundle_mutations import mutate, seal
from mutated_runs import outcomes, try_mutations
from tiny_bundle import TEMPLATE, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime import Engine
from moedge.runtime.cli import main
from moedge.runtime.generation_config import eos_of
from moedge.runtime.integrity import check_bundle, open_bundle
from moedge.runtime.text import Tokenizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("hostile") / "toy", template=TEMPLATE)


@pytest.fixture
def own(tmp_path):
    return write_tiny_bundle(tmp_path / "toy")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tokenizer.json", 200),
        ("chat_template.jinja", 150),
        ("generation_config.json", 200),
        ("manifest.json", 60),
        ("model.onnx", 30),
    ],
)
def test_a_changed_file_is_served_or_refused_in_one_sentence(bundle, name, count):
    attempts = try_mutations(bundle, name, 0, count)
    wrong = [attempt for attempt in attempts if attempt.outcome not in ("served", "refused")]
    assert not wrong, wrong[:3]
    found = outcomes(attempts)
    assert len(attempts) == sum(found.values()) == count
    assert found["refused"] > count // 10, found
    assert all(attempt.said for attempt in attempts if attempt.outcome == "refused")


def test_a_mutation_is_the_same_again_and_its_hashes_are_right(own):
    whole = (own / "tokenizer.json").read_bytes()
    assert mutate(whole, "tokenizer.json", 5) == mutate(whole, "tokenizer.json", 5)
    (own / "tokenizer.json").write_bytes(mutate(whole, "tokenizer.json", 5))
    assert check_bundle(own, lambda done, total: None) != []
    seal(own)
    assert check_bundle(own, lambda done, total: None) == []


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "sub/../../secret", "."])
def test_a_graph_reads_nothing_outside_of_its_bundle(own, place):
    """onnxruntime keeps external data inside of the model's folder, and what is inside is in the manifest."""
    (own.parent / "secret").write_bytes(b"\x01" * 4096)
    model = onnx.load(own / "model.onnx")
    tensor = next(each for each in model.graph.initializer if each.name == "embedding")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)
    (own / "model.onnx").write_bytes(model.SerializeToString())
    seal(own)
    with pytest.raises(MoedgeError, match="onnxruntime"):
        Engine.load(own)


def test_the_command_says_it_in_one_sentence_too(own, capsys):
    (own / "tokenizer.json").write_text("[" * 100_000)
    seal(own)
    assert main(["run", str(own), "hi"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("moedge: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("eos", [[[1]], {"a": 1}, 1.5, "1", [1.5], [True], True])
def test_ends_that_are_no_tokens_are_refused(eos):
    with pytest.raises(MoedgeError, match="eos_token_id"):
        eos_of({"eos_token_id": eos})


def test_a_panic_of_the_tokenizer_is_one_sentence(tmp_path, monkeypatch):
    """tokenizers' panics are no Exception: nothing would answer the request, and nobody would know why."""

    class PanicException(BaseException):
        pass

    def panic(*_, **__):
        raise PanicException("range end index out of range")

    write_tiny_bundle(tmp_path / "toy")
    path = tmp_path / "toy" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(path)
    tokenizer._tokenizer = type("Panicking", (), {"encode_batch_fast": panic})()
    with pytest.raises(RuntimeError, match="the tokenizer fails"):
        tokenizer.encode("hello")
    monkeypatch.setattr("tokenizers.Tokenizer.from_str", panic)
    with pytest.raises(MoedgeError, match="is not a tokenizer"):
        Tokenizer.from_file(path)


def test_a_manifest_may_not_be_a_device_or_too_deep(own):
    (own / "manifest.json").write_bytes(b"[" * 50_000)
    with pytest.raises(MoedgeError, match="cannot be read"):
        open_bundle(own)
    data = {"schema_version": 4, "files": {"a": {"size": 10**40, "sha256": "x"}}}
    (own / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(MoedgeError):
        open_bundle(own)
    (own / "manifest.json").unlink()
    (own / "manifest.json").symlink_to(Path("/dev/zero"))
    with pytest.raises(MoedgeError, match="symbolic link"):
        open_bundle(own)
