"""A SentencePiece model, converted, gives the ids of the sentencepiece package, and its text back."""

import argparse
import inspect
import json
import unicodedata

import pytest
import sentencepiece
from texts import MIXED, random_strings

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer import read_tokenizer
from moedge.runtime.text import Tokenizer as RuntimeTokenizer

SYMBOLS = ["<tool>", "[INST]"]
LLAMA = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
         "remove_extra_whitespaces": False, "split_digits": True, "character_coverage": 0.9995}  # fmt: skip
MODELS = {
    "llama": LLAMA,
    "no-prefix": LLAMA | {"add_dummy_prefix": False},
    "nfkc": LLAMA | {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
    "symbols": LLAMA | {"user_defined_symbols": SYMBOLS, "allow_whitespace_only_pieces": True},
    "no-bytes": LLAMA | {"byte_fallback": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a model of each kind, trained on the mixed texts."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    corpus = folder / "corpus.txt"
    lines = [line for text in [inspect.getsource(argparse), *MIXED * 30] for line in text.splitlines()]
    corpus.write_text("\n".join(line.replace("\0", "") for line in lines), encoding="utf-8")

    def train(name):
        target = folder / name
        if not target.exists():
            target.mkdir()
            sentencepiece.SentencePieceTrainer.train(
                input=str(corpus), model_prefix=str(target / "tokenizer"), vocab_size=2000, hard_vocab_limit=False,
                minloglevel=2, num_threads=1, **MODELS[name],
            )  # fmt: skip
        return target

    return train


def load(folder, config=None, added=None):
    _, text = read_tokenizer(folder, config or {}, added or {})
    return RuntimeTokenizer(text), sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def joins(letter):
    return unicodedata.category(letter)[0] == "M" or "\u1100" <= letter < "\u1200" or letter == "\u200d"


@pytest.mark.parametrize("name", MODELS)
def test_the_same_ids(trained, name):
    ours, theirs = load(trained(name))
    texts = [text for text in (*MIXED, *random_strings(3000)) if "\0" not in text]
    if name == "nfkc":  # random letters that join into one grapheme: see sentencepiece_model.py
        texts = [text for text in texts if not any(joins(letter) for letter in text)]
    different = [text for text in texts if ours.encode(text, allow_special=True) != theirs.encode(text)]
    assert different == []
    assert ours.vocab_size == theirs.vocab_size()


@pytest.mark.parametrize("name", ["llama", "no-prefix"])
def test_the_text_comes_back_also_in_a_stream(trained, name):
    ours, theirs = load(trained(name))
    for text in ("Hello, world!", "机器学习 é 👍🏽 ok", "a  b\n c", "def f():\n    return 1"):
        ids = theirs.encode(text)
        assert ours.decode(ids) == text
        stream = ours.stream()
        assert "".join([*map(stream.push, ids), stream.flush()]) == text


def test_control_pieces_are_special_and_symbols_are_tokens(trained):
    ours, theirs = load(trained("symbols"))
    assert {"<s>", "</s>", "<unk>", *SYMBOLS} == set(ours.special_tokens)
    assert ours.encode("<s>", allow_special=True) == [theirs.bos_id()]
    text = "a</s>b [INST] <tool>"
    assert theirs.eos_id() not in ours.encode(text)  # a user's text stays text
    assert theirs.piece_to_id("<tool>") not in ours.encode(text)
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    ("config", "around"),
    [
        ({}, ([1], [])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_bos_token": True, "add_eos_token": True}, ([1], [2])),
        ({"add_bos_token": False, "add_eos_token": True}, ([], [2])),
    ],
)
def test_what_surrounds_a_bare_text(trained, config, around):
    ours, theirs = load(trained("llama"), config)
    before, after = around
    assert ours.encode("hi there", add_special_tokens=True) == [*before, *theirs.encode("hi there"), *after]


def test_tokens_that_only_the_configuration_names_are_added(trained):
    folder = trained("llama")
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
    config = {"added_tokens_decoder": {"1": {"content": "<s>", "special": True},
                                       str(size + 1): {"content": "<|im_end|>", "special": True}}}  # fmt: skip
    ours, _ = load(folder, config, {"<|im_start|>": size})
    assert ours.encode("<|im_start|><|im_end|>", allow_special=True) == [size, size + 1]
    for wrong in ({"<|im_start|>": size + 5}, {"<s>": 7}):
        with pytest.raises(MoedgeError, match="do not belong together"):
            load(folder, {}, wrong)
    with pytest.raises(MoedgeError, match="not a table of ids and tokens"):
        load(folder, {"added_tokens_decoder": {"x": "<a>"}})


def test_a_tokenizer_json_wins_and_keeps_its_text(trained, tmp_path):
    folder = trained("no-bytes")
    (tmp_path / "tokenizer.model").write_bytes(b"broken")
    _, text = read_tokenizer(folder, {}, {})
    (tmp_path / "tokenizer.json").write_text(json.dumps(json.loads(text), indent=3))
    assert read_tokenizer(tmp_path, {}, {})[1] == json.dumps(json.loads(text), indent=3)


def test_a_unigram_model_is_refused(trained, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        input=str(trained("llama").parent / "corpus.txt"), model_prefix=str(tmp_path / "tokenizer"), vocab_size=500,
        hard_vocab_limit=False, minloglevel=2, num_threads=1, model_type="unigram",
    )  # fmt: skip
    with pytest.raises(MoedgeError, match="no BPE model"):
        read_tokenizer(tmp_path, {}, {})


@pytest.mark.parametrize("content", [b"broken", b"", b"\x0a\x03abc"])
def test_broken_models(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(MoedgeError, match=r"tokenizer\.model"):
        read_tokenizer(tmp_path, {}, {})


def test_no_tokenizer_at_all(tmp_path):
    with pytest.raises(MoedgeError, match=r"no tokenizer\.json, tiktoken\.model or tokenizer\.model"):
        read_tokenizer(tmp_path, {}, {})
