"""Files on the hub that are not what their names say: refused in one sentence, before any of the weights is fetched."""

import json

import pytest

INDEX = "model.safetensors.index.json"


def test_weights_that_are_not_safetensors(broken, shards, refused):
    (broken / shards[0]).write_bytes(b"version https://git-lfs")
    refused("hf://org/broken", shards[0], "not safetensors")


def test_a_small_file_that_would_fill_the_disk(hub, broken, refused, monkeypatch):
    """It was told as a download that broke off, to be run again."""
    monkeypatch.setattr("moedge.export.hub.fetch.MOST_SMALL_BYTES", 10)
    size = (broken / "config.json").stat().st_size
    refused("hf://org/broken", f"moedge: config.json of hf://org/broken has {size} bytes: do not use this checkpoint.")
    assert "config.json" not in hub.asked()


@pytest.mark.parametrize(
    "broken_entry",
    [
        {"data_offsets": [0, 10**9]},
        {"data_offsets": [-8, 0]},
        {"shape": [2, -4]},
        {"shape": 8},
        {"shape": ["x"]},
        {"dtype": 3},
    ],
    ids=str,
)
def test_a_broken_header_is_not_a_download_that_broke_off(broken, shards, refused, broken_entry):
    data = (broken / shards[0]).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = sorted(header)[-1]
    header[name] |= broken_entry
    text = json.dumps(header).encode()
    (broken / shards[0]).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    refused(
        "hf://org/broken", f"moedge: {shards[0]} of hf://org/broken has a broken header: do not use this checkpoint."
    )


@pytest.mark.parametrize(
    "shard", ["*", "modeling_tiny.py", "../config.safetensors", "[a-z]*.safetensors", "pytorch_model.bin"]
)
def test_an_index_fetches_nothing_but_safetensors(hub, broken, refused, shard):
    (broken / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    refused("hf://org/broken", shard, "do not use this checkpoint")
    assert set(hub.asked()) <= {"config.json", "generation_config.json", "tokenizer.json", INDEX}


def test_weights_that_are_not_there(hub, broken, refused):
    (broken / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": "gone.safetensors"}}))
    refused("hf://org/broken", "hf://org/broken has no gone.safetensors")
    (broken / INDEX).unlink()
    hub.publish("org/broken", broken, commit="b" * 40)
    shards = sorted(broken.glob("model-*.safetensors"))
    shards.pop(1).unlink()
    refused("hf://org/broken", "hf://org/broken holds 3 of the 4 shards model-*-of-00004.safetensors: get the others")
    for shard in shards:
        shard.unlink()
    hub.publish("org/broken", broken, commit="c" * 40)
    refused("hf://org/broken", "hf://org/broken holds a GGUF, which moedge does not read (tiny.gguf)")
    (broken / "tiny.gguf").unlink()
    (broken / "pytorch_model.bin").unlink()
    hub.publish("org/broken", broken, commit="d" * 40)
    refused("hf://org/broken", "hf://org/broken has no model.safetensors")
    assert hub.weights() == []
