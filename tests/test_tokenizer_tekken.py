"""Mistral's tekken.json: ids and texts as tiktoken has them from the same tokens, and where special tokens stand."""

import base64
import importlib.util
import json
from pathlib import Path

import pytest
import tiktoken
from test_tokenizer_tiktoken import trained_tokens
from tokenizer_texts import TEXTS, random_texts

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.runtime.text import Tokenizer

SHIPPED = Path(next(iter(importlib.util.find_spec("mistral_common").submodule_search_locations))) / "data"
# As it stands in the files that Mistral ships
PATTERN = json.loads((SHIPPED / "tekken_240911.json").read_text())["config"]["pattern"]


def made(tokens, special=20, **changes):
    order = [*(bytes([byte]) for byte in range(256)), *(token for token in tokens if len(token) > 1)]
    vocab = [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(order)]
    config = {
        "pattern": PATTERN, "num_vocab_tokens": len(vocab), "default_vocab_size": len(vocab) - 50 + special,
        "default_num_special_tokens": special, "version": "v3",
    }  # fmt: skip
    return {"config": config, "vocab": vocab} | changes


def write(folder, data):
    (folder / "tekken.json").write_text(json.dumps(data))
    return folder


def reference(data):
    """tiktoken's encoder of the tokens that count, and by how much Mistral's ids are higher."""
    config = data["config"]
    special = config["default_num_special_tokens"]
    entries = data["vocab"][: config["default_vocab_size"] - special]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in entries}
    return tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={}), special


@pytest.fixture(scope="module")
def tokens():
    return trained_tokens()


def same_ids(folder, data, texts):
    ours, (theirs, special) = Tokenizer(read_tokenizer(write(folder, data))), reference(data)
    for text in texts:
        ids = [special + i for i in theirs.encode(text)]
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == text
    return ours


def test_ids_of_mistrals_own_file(tmp_path):
    data = json.loads((SHIPPED / "tekken_240911.json").read_text())
    ours = same_ids(tmp_path, data, [*TEXTS, *random_texts(3000, seed=2), "path/to/\n//x", "[INST]<s></s>"])
    assert ours.encode("[INST]a</s>", allow_special=True) == [3, *ours.encode("a"), 2]
    assert ours.encode("a", add_special_tokens=True) == [1, *ours.encode("a")]
    assert [ours.spelling(i) for i in (11, 19, 20, 999)] == ["<pad>", "[TOOL_CONTENT]", "<SPECIAL_20>", "<SPECIAL_999>"]


def test_special_tokens_of_a_list(tmp_path, tokens):
    listed = [("<unk>", True), ("<s>", True), ("</s>", True), ("[THINK]", False)]
    special = [{"rank": i, "token_str": t, "is_control": control} for i, (t, control) in enumerate(listed)]
    data = made(tokens, 6, special_tokens=special)
    data["config"]["version"] = "v13"
    ours = same_ids(tmp_path, data, [*TEXTS, *random_texts(1000, seed=4)])
    flags = {t["content"]: t["special"] for t in json.loads(read_tokenizer(tmp_path))["added_tokens"]}
    assert flags == dict(listed) | {"<SPECIAL_4>": True, "<SPECIAL_5>": True}
    assert ours.encode("[THINK]", allow_special=True) == [3]
    assert 3 not in ours.encode("[THINK]")


def entry(rank, spelled):
    return {"rank": rank, "token_str": spelled, "is_control": True}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"pattern": r"\p{L}+"}, "splits text in a way that moedge does not know"),
        ({"version": "v11"}, "version v11 lists its special tokens"),
        ({"default_vocab_size": 10**9}, "its sizes are none"),
        ({"default_num_special_tokens": True}, "its sizes are none"),
        ({"default_vocab_size": 4000}, "does not hold every token once"),
        ({"default_num_special_tokens": 3}, "not numbered from 0 on"),
    ],
)
def test_configs_that_are_refused(tmp_path, tokens, changes, match):
    data = made(tokens)
    data["config"] |= changes
    with pytest.raises(MoedgeError, match=match):
        read_tokenizer(write(tmp_path, data))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["vocab"].__setitem__(300, d["vocab"][301]), "does not hold every token once"),
        (lambda d: d["vocab"].__setitem__(0, d["vocab"].pop()), "does not begin with the 256 bytes"),
        (lambda d: d["vocab"].__setitem__(300, {"token_bytes": "@"}), "is not a tekken tokenizer"),
        (lambda d: d.pop("config"), "is not a tekken tokenizer"),
        (lambda d: d.update(special_tokens=[entry(1, "<s>")]), "not numbered from 0 on"),
        (lambda d: d.update(special_tokens=[entry(0, "word")]), "'word' like another or like a word"),
        (lambda d: d.update(special_tokens=[entry(0, "<s>"), entry(1, "<s>")]), "'<s>' like another"),
    ],
)
def test_broken_files(tmp_path, tokens, change, match):
    data = made(tokens)
    change(data)
    with pytest.raises(MoedgeError, match=match) as caught:
        read_tokenizer(write(tmp_path, data))
    assert str(caught.value).endswith(".")


def test_a_file_that_is_no_object(tmp_path):
    for text in ("[]", "{", "null", ""):
        (tmp_path / "tekken.json").write_text(text)
        with pytest.raises(MoedgeError, match="is not a tekken tokenizer"):
            read_tokenizer(tmp_path)
