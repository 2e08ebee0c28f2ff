"""Repositories on the hub that are no checkpoint moedge reads: what they are is told before a shard is fetched."""

import json

import pytest
from safetensors.numpy import load_file, save_file

from moedge.runtime.cli import main

INDEX = "model.safetensors.index.json"
DECOYS = ("pytorch_model.bin", "tiny.gguf", "extra.safetensors")


@pytest.fixture
def bare(broken, shards):
    """The repository without weights, nor anything that looks like them."""
    for name in (*DECOYS, *shards, INDEX):
        (broken / name).unlink()
    return broken


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("model-Q4_K_M.gguf",), ("holds a GGUF", "(model-Q4_K_M.gguf)")),
        (("Q4_K_M/big-00001-of-00002.gguf",), ("holds a GGUF", "(big-00001-of-00002.gguf)")),
        (("adapter_config.json", "adapter_model.safetensors"), ("LoRA adapter", "merge it")),
        (("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"), ("PyTorch's pickles",)),
        (("consolidated.safetensors", "params.json"), ("Mistral's or Meta's own code",)),
        (("weights.npz",), ("another program's format",)),
    ],
)
def test_what_a_repository_holds_instead(hub, bare, refused, names, words, with_config):
    for name in names:
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_bytes(b"\0")
    if not with_config:
        (bare / "config.json").unlink()
    refused("hf://org/broken", "moedge: hf://org/broken ", *words)
    assert hub.weights() == []


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        ({"group_size": 64, "bits": 4}, "quantized with MLX"),
        ({"load_in_4bit": True}, "quantized with bitsandbytes"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}, "quantized with ModelOpt's NVFP4_AWQ"),
        ({"quant_method": "aqlm"}, "quantized with aqlm"),
    ],
)
def test_what_the_config_tells(hub, broken, refused, quantization, words):
    edit(broken / "config.json", quantization_config=quantization)
    refused("hf://org/broken", words)
    assert hub.weights() == []


def test_what_a_file_beside_the_config_tells(hub, broken, refused):
    (broken / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "W4A8_AWQ"}}))
    refused("hf://org/broken", "quantized with ModelOpt's W4A8_AWQ")
    assert hub.weights() == []


def test_what_only_the_headers_tell(hub, broken, shards, refused):
    """Bitsandbytes' tensors where the config has lost its quantization_config; headers are asked for, no weight is."""
    tensors = load_file(broken / shards[0])
    name = next(name for name in tensors if name.endswith("proj.weight"))
    save_file(tensors | {f"{name}.absmax": tensors[name][0].copy()}, broken / shards[0])
    index = json.loads((broken / INDEX).read_text())
    edit(broken / INDEX, weight_map=index["weight_map"] | {f"{name}.absmax": shards[0]})
    refused("hf://org/broken", f"quantized with bitsandbytes, 4 bits ({name}.absmax)")
    assert {request.range for request in hub.weights() if "/cdn/" in request.path} == {"bytes=0-100000"}


def test_shards_without_an_index_and_a_byte_order_mark(hub, broken, tmp_path, capfd):
    (broken / INDEX).unlink()
    config = broken / "config.json"
    edit(config, quantization_config={})
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    for name in ("org/tiny", "org/broken"):
        assert main(["export", f"hf://{name}", "-o", str(tmp_path / name)]) == 0, capfd.readouterr().err
    bundles = [tmp_path / name / "weights.bin" for name in ("org/tiny", "org/broken")]
    assert bundles[0].read_bytes() == bundles[1].read_bytes()
