"""Kimi's tiktoken.model, converted, gives the ids of the tiktoken package with Kimi's own pattern."""

import argparse as any_module
import base64
import inspect
import json
import random
import time

import pytest
import tiktoken
from texts import MIXED, random_strings
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from moedge.devices.errors import MoedgeError
from moedge.export.tiktoken_model import _byte_letters, read_tiktoken
from moedge.export.tokenizer import read_tokenizer
from moedge.runtime.text import Tokenizer as RuntimeTokenizer

# As tokenization_kimi.py writes it, alternative by alternative.
KIMI = "|".join(
    [
        r"""[\p{Han}]+""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
NAMED = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 3: "<|im_user|>", 22: "<think>", 23: "</think>"}
CONFIG = {
    "tokenizer_class": "TikTokenTokenizer",
    "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
}


def trained_ranks():
    """A byte-level vocabulary trained on code and the mixed texts: bytes first, then what was merged, in order."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(KIMI), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    rng = random.Random(1)
    corpus = [inspect.getsource(any_module), *MIXED * 20, *random_strings(2000, seed=9)]
    corpus += ["".join(rng.choices("的是机器学习模型", k=30)) for _ in range(500)]
    tokenizer.train_from_iterator(corpus, trainer)
    byte_of = {letter: byte for byte, letter in enumerate(_byte_letters())}
    spelt = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])]
    return {bytes(byte_of[letter] for letter in token): rank for rank, token in enumerate(spelt)}


def write(folder, ranks, config=CONFIG):
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (folder / "tiktoken.model").write_text("".join(lines))
    named = {str(len(ranks) + i): {"content": text, "special": "think" not in text} for i, text in NAMED.items()}
    return config | {"added_tokens_decoder": named}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kimi")
    ranks = trained_ranks()
    config = write(folder, ranks)
    special = {NAMED.get(i, f"<|reserved_token_{len(ranks) + i}|>"): len(ranks) + i for i in range(256)}
    theirs = tiktoken.Encoding("kimi", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=special)
    _, text = read_tokenizer(folder, config, {})
    return RuntimeTokenizer(text), theirs


@pytest.mark.parametrize("text", MIXED)
def test_mixed_scripts_code_and_emoji(both, text):
    ours, theirs = both
    ids = theirs.encode_ordinary(text)
    assert ours.encode(text) == ids
    assert ours.decode(ids) == text


def test_ten_thousand_random_strings(both):
    ours, theirs = both
    different = [text for text in random_strings(10_000) if ours.encode(text) != theirs.encode_ordinary(text)]
    assert different == []


def test_special_tokens_are_tokens_or_text_as_asked(both):
    ours, theirs = both
    text = "<|im_user|>你好<|im_end|><think>a</think>[EOS]<|reserved_token_"
    assert ours.encode(text, allow_special=True) == theirs.encode(text, allowed_special="all")
    assert ours.encode(text) == theirs.encode_ordinary(text)
    assert ours.vocab_size == theirs.n_vocab
    stream = ours.stream()
    ids = theirs.encode("数据👍🏽 ok")
    assert "".join([*map(stream.push, ids), stream.flush()]) == "数据👍🏽 ok"


def test_a_vocabulary_of_kimis_size_converts_in_seconds(tmp_path):
    rng = random.Random(0)
    ranks = {bytes([b]): b for b in range(256)}
    tokens = list(ranks)
    while len(ranks) < 163_584:
        token = rng.choice(tokens) + rng.choice(tokens)
        if len(token) <= 12 and token not in ranks:
            ranks[token] = len(ranks)
            tokens.append(token)
    config = write(tmp_path, ranks)
    begun = time.perf_counter()
    tokenizer = read_tiktoken(tmp_path / "tiktoken.model", config)
    print(f"converted in {time.perf_counter() - begun:.1f} s")
    assert tokenizer.get_vocab_size() == 163_840
    theirs = tiktoken.Encoding("kimi", pat_str=KIMI, mergeable_ranks=ranks, special_tokens={})
    for text in random_strings(300, seed=3):
        assert tokenizer.encode(text, add_special_tokens=False).ids == theirs.encode_ordinary(text)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"tokenizer_class": "QWenTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]}},
         r"read by tokenization_qwen\.QWenTokenizer"),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, "read by PreTrainedTokenizerFast"),
        ({}, "does not name"),
    ],
)  # fmt: skip
def test_other_code_is_not_kimis(tmp_path, config, match):
    write(tmp_path, {bytes([b]): b for b in range(256)})
    with pytest.raises(MoedgeError, match=match):
        read_tokenizer(tmp_path, config, {})


@pytest.mark.parametrize(
    ("content", "match"),
    [("not base64!\n", "base64"), ("YQ== 0\n", "lacks"), ("YQ==\n", "base64"), ("YQ== 1\nYg== 1\n", "lacks")],
)
def test_broken_files(tmp_path, content, match):
    (tmp_path / "tiktoken.model").write_text(content)
    with pytest.raises(MoedgeError, match=match):
        read_tokenizer(tmp_path, CONFIG, {})


def test_moonlights_code_is_known(tmp_path):
    config = write(tmp_path, {bytes([b]): b for b in range(256)})
    config["auto_map"] = {"AutoTokenizer": ["moonshotai/Moonlight--tokenization_moonshot.TikTokenTokenizer", None]}
    tokenizer, text = read_tokenizer(tmp_path, config, {})
    assert tokenizer.token_to_id("<|im_end|>") == 258
    assert json.loads(text)["model"]["ignore_merges"]
