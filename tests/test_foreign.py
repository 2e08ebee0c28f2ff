"""What people point the exporter at that is no checkpoint, or not all of one: what it is, and the way on.

"Download" is said only where something is missing.
"""

import json

import numpy as np
import pytest
import tiny_models as tiny
from safetensors.numpy import load_file, save_file
from tokenizers import pre_tokenizers

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.hub.name import parse_name
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime.cli import main

OPTIONS = ExportOptions(parse_plan("int8"))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4976698672\n"
JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "added_tokens.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny.save_checkpoint(tiny.qwen3_moe(num_hidden_layers=2), folder / "one", 0)
    tiny.save_checkpoint(tiny.qwen3_moe(num_hidden_layers=2), folder / "many", 0, shard="300KB")
    return folder


def copy(whole, folder, *without):
    """A copy of a checkpoint of one file, or of many shards, without some of the files."""
    folder.mkdir()
    for path in whole.iterdir():
        if path.name not in without:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def refuse(folder, match, downloads=False):
    with pytest.raises(MoedgeError, match=match) as caught:
        export_bundle(folder, folder.parent / "bundle", OPTIONS)
    text = str(caught.value)
    assert ("download" in text.replace("unfinished download", "")) == downloads, text
    assert text.endswith(".")
    assert "incomplete" not in text.replace(".incomplete", "")
    assert not (folder.parent / "bundle").exists()


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("model-Q4_K_M.gguf",), r"holds a GGUF, .*\(model-Q4_K_M\.gguf\): take"),
        (("__0_0.distcp", ".metadata"), r"state of a training run, in pieces \(__0_0\.distcp\): put its weights"),
        (("global_step100", "zero_to_fp32.py"), "state of a training run"),
        (("mmproj.gguf", "model-00001-of-00003.gguf"), "holds a GGUF"),
        (("pytorch_model.bin",), r"PyTorch's pickles.*\(pytorch_model\.bin\): .*safetensors"),
        (("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"), "PyTorch's pickles"),
        (("model.pt",), "PyTorch's pickles"),
        (("adapter_config.json", "adapter_model.safetensors"), "LoRA adapter and no model.*merge it"),
        (("adapter_model.bin",), "LoRA adapter"),
        (("consolidated.safetensors", "params.json"), r"Mistral's or Meta's.*\(consolidated\.safetensors"),
        (("consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"), "Mistral's or Meta's"),
        (("consolidated.00.pth", "params.json"), "Mistral's or Meta's"),
        (("weights.bin", "model.onnx", "manifest.json"), "bundle that was exported already"),
        (("weights.npz",), "another program's format"),
        (("model.onnx", "model.onnx_data"), "another program's format"),
        (("openvino_model.xml", "openvino_model.bin"), "another program's format"),
        (("tf_model.h5",), "another program's format"),
        (("blobs", "refs", "snapshots"), r"hub's cache of a repository \(snapshots\): give the folder of a commit"),
        (("README.md", "training_args.bin"), "has no (config.json|model.safetensors): give what has"),
    ],
)  # fmt: skip
def test_what_lies_there_instead(whole, tmp_path, names, match, with_config):
    folder = tmp_path / "there"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"\0")
    if with_config:
        (folder / "config.json").write_bytes((whole / "one" / "config.json").read_bytes())
    refuse(folder, match)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model-Q4_K_M.gguf", r"model-Q4_K_M\.gguf holds a GGUF, which"),
        ("model.safetensors", "one file of a checkpoint: give its folder"),
        ("config.json", "one file of a checkpoint: give its folder"),
        ("pytorch_model.bin", "PyTorch's pickles"),
        ("README.md", "has no config.json"),
    ],
)
def test_a_file_in_the_place_of_a_folder(tmp_path, monkeypatch, capfd, name, match):
    folder = tmp_path / "org"
    folder.mkdir()
    (folder / name).write_bytes(b"GGUF")
    refuse(folder / name, match)
    # a relative name is spelt as a model on the hub is
    monkeypatch.chdir(tmp_path)
    assert parse_name(f"org/{name}") is None
    assert main(["export", f"org/{name}", "-o", "bundle"]) == 1
    assert "hf://" not in capfd.readouterr().err


def test_shards_without_an_index(whole, tmp_path):
    """A set of shards says how many it is: whole, it is read; the bundle is that of the one file."""
    export_bundle(whole / "one", tmp_path / "expected", OPTIONS)
    bundles = []
    for source, renamed in (("one", "model-00001-of-00001.safetensors"), ("many", None)):
        folder = copy(whole / source, tmp_path / source, "model.safetensors.index.json")
        if renamed:
            (folder / "model.safetensors").rename(folder / renamed)
        export_bundle(folder, tmp_path / f"{source}-bundle", OPTIONS)
        bundles.append(tmp_path / f"{source}-bundle" / "weights.bin")
    expected = (tmp_path / "expected" / "weights.bin").read_bytes()
    assert [bundle.read_bytes() == expected for bundle in bundles] == [True, True]


def test_shards_without_an_index_that_are_not_a_whole_set(whole, tmp_path):
    folder = copy(whole / "many", tmp_path / "there", "model.safetensors.index.json")
    shards = sorted(folder.glob("model-*.safetensors"))
    for shard in shards:  # a second set, as two downloads into one folder leave it
        (folder / shard.name.replace("model", "other")).write_bytes(b"")
    refuse(folder, r"shards of 2 checkpoints \(model-00001-of-.*other-00001")
    for shard in shards:
        (folder / shard.name.replace("model", "other")).unlink()
    shards[1].unlink()
    count = len(shards)
    refuse(folder, rf"holds {count - 1} of the {count} shards model-\*-of-0000{count}\.safetensors: get the others")
    (folder / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "download" / "abc.incomplete").write_bytes(b"")
    shards[0].rename(folder / "model-00001.safetensors")
    for shard in shards[2:]:
        shard.unlink()
    refuse(folder, r"has no model\.safetensors and an unfinished download \(abc\.incomplete\)", True)


@pytest.mark.parametrize("begun", [None, "model-00002-of-00002.safetensors.incomplete", "x.crdownload", "y.aria2"])
def test_a_download_that_is_not_finished(whole, tmp_path, begun):
    folder = copy(whole / "many", tmp_path / "there")
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[0].unlink()
    if begun:
        (folder / begun).write_bytes(b"")
    way_on = rf"the download is not finished \({begun}\)" if begun else r"download the rest\."
    refuse(folder, rf"{shards[0].name} is missing \(1 of {len(shards)} shards are\): {way_on}", True)


TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json", "vocab.json", "merges.txt")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer_config.json", "chat_template.jinja", *TOKENIZERS]
)
@pytest.mark.parametrize(
    ("content", "match"),
    [(POINTER, "Git LFS's pointer to a file.*git lfs pull"), (b"<!DOCTYPE html>\n<html>", "is a web page")],
)
def test_what_stands_where_a_file_should(whole, tmp_path, name, content, match):
    folder = copy(whole / "one", tmp_path / "there", *(["tokenizer.json"] if name in TOKENIZERS else []))
    if name == "merges.txt":
        vocab = {character: i for i, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    (folder / name).write_bytes(content)
    refuse(folder, rf"{name} {match}|{name} is {match}", content is not POINTER)


def test_byte_order_marks_and_an_empty_quantization_config(whole, tmp_path):
    export_bundle(whole / "one", tmp_path / "expected", OPTIONS)
    folder = copy(whole / "one", tmp_path / "there")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {}}))
    (folder / "added_tokens.json").write_text("{}")
    marked = [folder / name for name in JSON_FILES if (folder / name).exists()]
    assert len(marked) >= 4
    for path in marked:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    export_bundle(folder, tmp_path / "bundle", OPTIONS)
    for name in ("weights.bin", "tokenizer.json", "model.onnx"):
        assert (tmp_path / "bundle" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name
    many = copy(whole / "many", tmp_path / "shards")
    index = many / "model.safetensors.index.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    export_bundle(many, tmp_path / "of-shards", OPTIONS)


def test_a_folder_that_also_holds_other_things_is_read(whole, tmp_path):
    folder = copy(whole / "one", tmp_path / "there")
    for name in ("model-Q4_K_M.gguf", "pytorch_model.bin", "consolidated.safetensors", "adapter_config.json"):
        (folder / name).write_bytes(b"\0")
    export_bundle(folder, tmp_path / "made", OPTIONS)
    (folder / "config.json").unlink()
    refuse(folder, r"there has no config\.json: give what has")


@pytest.mark.parametrize("first", [0, 1])
def test_shards_that_count_from_zero(whole, tmp_path, first):
    folder = copy(whole / "one", tmp_path / "there")
    tensors, count = load_file(folder / "model.safetensors"), 3
    (folder / "model.safetensors").unlink()
    for i in range(count):
        some = {name: array for j, (name, array) in enumerate(sorted(tensors.items())) if j % count == i}
        save_file(some, folder / f"model-{i + first}-of-{count:06}.safetensors")
    export_bundle(folder, tmp_path / "bundle", OPTIONS)
    (folder / f"model-{first + 1}-of-000003.safetensors").rename(folder / "model-7-of-000003.safetensors")
    (tmp_path / "bundle").rename(tmp_path / "made")
    refuse(folder, "holds 2 of the 3 shards")
    (folder / "model-7-of-000003.safetensors").rename(folder / "model-3-of-000003.safetensors")
    if first == 0:  # 0, 2 and 3
        refuse(folder, "holds 2 of the 3 shards")
        (folder / "model-1-of-000003.safetensors").write_bytes(b"")
        refuse(folder, "holds more than 3 shards")


def test_ggufs_in_a_folder_of_their_own(tmp_path):
    folder = tmp_path / "there"
    (folder / "Q4_K_M").mkdir(parents=True)
    (folder / "Q4_K_M" / "m-00001-of-00002.gguf").write_bytes(b"GGUF")
    refuse(folder, r"holds a GGUF, .*\(m-00001-of-00002\.gguf\)")


def test_weights_under_another_name(whole, tmp_path):
    folder = copy(whole / "one", tmp_path / "there")
    (folder / "model.safetensors").rename(folder / "qwen.safetensors")
    refuse(folder, r"has no model\.safetensors, but qwen\.safetensors: rename that")
    (folder / "layers-0-8.safetensors").write_bytes(b"")
    refuse(folder, r"but 2 others \(layers-0-8\.safetensors …\) .* add the model\.safetensors\.index\.json")


def test_weights_in_one_file_beside_the_shards_of_an_index(whole, tmp_path):
    """As a merge saved into the folder of its base: transformers takes the one, vLLM the others."""
    folder = copy(whole / "many", tmp_path / "there")
    (folder / "model.safetensors").write_bytes((whole / "one" / "model.safetensors").read_bytes())
    refuse(
        folder, r"index\.json is of other files than the model\.safetensors beside it: keep the weights that you mean"
    )
    (folder / "model.safetensors.index.json").unlink()
    export_bundle(folder, tmp_path / "made", OPTIONS)


def test_an_index_of_another_commit(whole, tmp_path):
    """Every file is whole: to get one again changes nothing."""
    folder = copy(whole / "many", tmp_path / "there")
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    shard = weight_map["lm_head.weight"]
    index.write_text(json.dumps({"weight_map": weight_map | {"model.new.weight": shard}}))
    refuse(folder, rf"{shard} lacks model\.new\.weight, which .* says it holds: take both from the same commit")


def test_a_tensor_that_is_not_there_though_the_files_are(whole, tmp_path):
    folder = copy(whole / "one", tmp_path / "there")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / "model.safetensors")
    refuse(folder, r"model\.norm\.weight is missing")
