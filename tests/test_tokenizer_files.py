"""Which file a tokenizer comes from, tokens that only files beside it name, and how the end of text is found."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_bundle import ADDED, tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.export.tokenizer.talking import read_talking
from moedge.runtime.text import Tokenizer

BUILT = tokenizer()
SIZE = BUILT.get_vocab_size()
TEXT = BUILT.to_str(pretty=True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokenizer.json").write_text(TEXT, encoding="utf-8")
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def write(folder, name, data):
    (folder / name).write_text(json.dumps(data), encoding="utf-8")


def refuse(folder, match):
    with pytest.raises(MoedgeError, match=match) as caught:
        read_tokenizer(folder)
    assert str(caught.value).endswith(".")


def test_a_tokenizer_that_lacks_nothing_is_copied_as_it_is(folder):
    (folder / "tiktoken.model").write_bytes(b"broken")
    (folder / "tokenizer.model").write_bytes(b"broken")
    known = {BUILT.token_to_id(content): {"content": content} for content in ADDED}
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": known})
    assert read_tokenizer(folder) == TEXT


def test_tokens_that_only_the_config_names_are_added(folder):
    named = {
        str(SIZE + 1): {"content": "<late>", "special": False, "lstrip": True},
        str(SIZE): {"content": "<new>", "special": True},
    }
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": named})
    definition = read_tokenizer(folder)
    tok = Tokenizer(definition)
    assert tok.encode("<new>a  <late>", allow_special=True) == [SIZE, *tok.encode("a"), SIZE + 1]
    assert not {SIZE, SIZE + 1} & set(tok.encode("<new><late>"))
    assert tok.decode([SIZE, SIZE + 1]) == "<new><late>"
    flags = {token["content"]: token["special"] for token in json.loads(definition)["added_tokens"]}
    assert (flags["<new>"], flags["<late>"]) == (True, False)
    assert tok.encode("unchanged \u4f60") == Tokenizer(TEXT).encode("unchanged \u4f60")


def test_files_that_contradict_each_other(folder):
    for named, match in (
        ({SIZE + 5: {"content": "<gap>"}}, f"'<gap>' the id {SIZE + 5}, the tokenizer gives it {SIZE}"),
        ({3: {"content": ADDED[0]}}, "they do not belong together"),
        ({-1: {"content": "<x>"}}, "broken entry -1"),
        ({SIZE: {"content": ""}}, "broken entry"),
        ({SIZE: 3}, "broken entry"),
        ({SIZE: "<x>"}, "broken entry"),
    ):
        write(folder, "tokenizer_config.json", {"added_tokens_decoder": named})
        refuse(folder, match)
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": ["<x>"]})
    refuse(folder, "added_tokens_decoder")
    write(folder, "tokenizer_config.json", [])
    refuse(folder, "does not hold a JSON object")
    (folder / "tokenizer_config.json").write_text("{")
    refuse(folder, "is not valid JSON")
    (folder / "tokenizer_config.json").unlink()
    write(folder, "added_tokens.json", {"<x>": "one"})
    refuse(folder, "gives '<x>' no whole number")


def test_no_tokenizer_names_what_was_looked_for(folder):
    (folder / "tokenizer.json").unlink()
    refuse(folder, r"has no tokenizer\.json, .* or vocab\.json with merges\.txt: add the model's tokenizer")
    (folder / "tokenizer.json").write_text("{}")
    refuse(folder, "is not a tokenizer that can be read")


def talking(folder):
    with Checkpoint(folder) as checkpoint:
        return read_talking(checkpoint)


def test_the_end_of_text_is_taken_from_the_first_file_that_names_it(folder):
    think, eos = BUILT.token_to_id("<think>"), BUILT.token_to_id("<|eos|>")
    write(folder, "tokenizer_config.json", {"eos_token": {"content": "<|eos|>"}, "bos_token": "<think>"})
    assert talking(folder).eos_token_ids == (eos,)
    assert talking(folder).bos_token_id == think
    write(folder, "config.json", {"text_config": {"eos_token_id": [5, 6]}})
    assert talking(folder).eos_token_ids == (5, 6)
    write(folder, "config.json", {"eos_token_id": 7, "text_config": {"eos_token_id": [5, 6]}})
    assert talking(folder).eos_token_ids == (7,)
    write(folder, "generation_config.json", {"eos_token_id": [8, 9], "bos_token_id": 3})
    assert talking(folder).eos_token_ids == (8, 9)
    assert talking(folder).bos_token_id == 3


def test_special_tokens_map_of_older_checkpoints(folder):
    write(folder, "special_tokens_map.json", {"eos_token": "<|eos|>"})
    assert talking(folder).eos_token_ids == (BUILT.token_to_id("<|eos|>"),)
    assert talking(folder).bos_token_id is None


@pytest.mark.parametrize("config", [{}, {"eos_token": "<nowhere>"}, {"eos_token": None}])
def test_an_end_of_text_without_an_id_is_refused(folder, config):
    write(folder, "tokenizer_config.json", config)
    with pytest.raises(MoedgeError, match="names no eos_token_id"):
        talking(folder)
