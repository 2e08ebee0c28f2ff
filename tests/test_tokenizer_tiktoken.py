import base64
import json
import random
from itertools import pairwise

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_texts import TEXTS, corpus, random_texts
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HubTokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.merges import rebuild_merges
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.runtime.text import Tokenizer

# As in tokenization_kimi.py of Kimi-K2-Instruct, written out once more so that a slip in ours is seen.
PATTERN = "|".join(
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
# Offsets from the first special id, and whether the config flags them as special, as Kimi K2 has them.
NAMED = {0: ("[BOS]", True), 1: ("[EOS]", True), 2: ("<|im_end|>", True), 3: ("<|im_user|>", True)}
NAMED |= {17: ("<|im_middle|>", True), 13: ("<|tool_call_begin|>", False), 255: ("[PAD]", True)}


def trained_tokens() -> list[bytes]:
    """A byte-level vocabulary of 3,000 tokens in the order of their merges."""
    trained = HubTokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    )
    spelled = {chr(byte): byte for byte in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]}
    spelled |= {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in spelled.values())}
    vocab = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    return [bytes(spelled[character] for character in token) for token in vocab]


def write(folder, tokens, **config):
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    (folder / "tiktoken.model").write_bytes(lines)
    config = {
        "tokenizer_class": "TikTokenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "added_tokens_decoder": {
            str(len(tokens) + offset): {"content": content, "special": special, "normalized": False}
            for offset, (content, special) in NAMED.items()
        },
    } | config
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def reference(tokens) -> tiktoken.Encoding:
    first = len(tokens)
    special = {f"<|reserved_token_{first + n}|>": first + n for n in range(256) if n not in NAMED}
    special |= {content: first + offset for offset, (content, _) in NAMED.items()}
    return tiktoken.Encoding(
        "kimi", pat_str=PATTERN, mergeable_ranks={t: i for i, t in enumerate(tokens)}, special_tokens=special
    )


@pytest.fixture(scope="module")
def tokens():
    return trained_tokens()


@pytest.fixture
def pair(tmp_path, tokens):
    write(tmp_path, tokens)
    return Tokenizer(read_tokenizer(tmp_path)), reference(tokens)


def test_ids_of_mixed_texts_and_10000_random_strings(pair):
    ours, theirs = pair
    for text in [*TEXTS, *random_texts(10_000, seed=3), "\n".join(TEXTS), *corpus()[-300:]]:
        ids = theirs.encode(text, disallowed_special=())
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == text
        stream = ours.stream()
        assert "".join([*map(stream.push, ids), stream.flush()]) == text


def test_spellings_of_special_tokens_are_tokens_only_where_allowed(pair, tokens):
    ours, theirs = pair
    spelled = [content for content, _ in NAMED.values()] + [f"<|reserved_token_{len(tokens) + 100}|>"]
    for text in [*spelled, "".join(spelled), *(f"hi{s} 你好{s}\n" for s in spelled)]:
        assert ours.encode(text, allow_special=True) == theirs.encode(text, allowed_special="all")
        ids = ours.encode(text)
        assert ids == theirs.encode(text, disallowed_special=())
        assert max(ids) < len(tokens)
    assert [ours.spelling(len(tokens) + n) for n in (255, 256)] == ["[PAD]", None]


def test_every_special_token_has_the_flag_of_the_config(tmp_path, tokens):
    write(tmp_path, tokens)
    added = json.loads(read_tokenizer(tmp_path))["added_tokens"]
    flags = {token["content"]: token["special"] for token in added}
    assert len(flags) == 256
    assert [content for content, special in flags.items() if not special] == ["<|tool_call_begin|>"]


def test_vocabularies_in_any_order_whose_tokens_no_merges_reach(tmp_path):
    rng = random.Random(5)
    for _ in range(4):
        words = {bytes(rng.choices(b"ab c", k=rng.randint(2, 9))) for _ in range(120)}
        words |= {"你好".encode(), b" newlines", b"new"}
        vocab = [bytes([byte]) for byte in range(256)] + sorted(words)
        rng.shuffle(vocab)
        write(tmp_path, vocab)
        ours, theirs = Tokenizer(read_tokenizer(tmp_path)), reference(vocab)
        for _ in range(1500):
            text = "".join(rng.choices("aabb c你好", k=rng.randint(1, 30)))
            assert ours.encode(text) == theirs.encode(text, disallowed_special=()), text


@given(st.lists(st.text("ab", min_size=2, max_size=7), unique=True, max_size=40), st.text("ab", max_size=60))
def test_one_merge_a_token_is_enough(words, text):
    ranks = {token: rank for rank, token in enumerate([*words, "a", "b"])}
    ours = HubTokenizer(models.BPE(vocab=ranks, merges=rebuild_merges(ranks)))
    parts = list(text)
    while True:  # the encoder of the docstring, as it stands there
        joins = [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not joins:
            break
        _, at = min(joins)
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    assert ours.encode(text).tokens == parts


@pytest.mark.parametrize(
    "reader", ["tokenization_moonshot.TikTokenTokenizer", "org/name--tokenization_kimi.TikTokenTokenizer"]
)
def test_relatives_are_known(tmp_path, tokens, reader):
    write(tmp_path, tokens, auto_map={"AutoTokenizer": [reader, None]})
    assert Tokenizer(read_tokenizer(tmp_path)).encode("你好") == reference(tokens).encode("你好")


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoTokenizer": ["tokenization_other.TikTokenTokenizer", None]}},
        {"auto_map": None},
        {"auto_map": {"AutoTokenizer": [None, "tokenization_kimi.Fast"]}},
    ],
)
def test_an_unknown_split_is_refused(tmp_path, tokens, config):
    write(tmp_path, tokens, **config)
    with pytest.raises(MoedgeError, match=r"way of splitting text moedge does not know: add a tokenizer\.json"):
        read_tokenizer(tmp_path)


def test_contradictions_and_broken_files(tmp_path, tokens):
    def refuse(match):
        with pytest.raises(MoedgeError, match=match):
            read_tokenizer(tmp_path)

    path = tmp_path / "tiktoken.model"
    for token_id, content in ((7, "[BOS]"), (len(tokens) + 256, "[BOS]")):
        write(tmp_path, tokens, added_tokens_decoder={str(token_id): {"content": content}})
        refuse(f"names the id {token_id}")
    write(tmp_path, tokens, added_tokens_decoder={str(len(tokens)): {"content": "def"}})
    refuse("'def' the id")
    write(tmp_path, tokens)
    whole = path.read_bytes()
    for broken, match in (
        (whole + b"@@@@ 9999\n", "line 3001"),
        (whole + b"YQ==\n", "line 3001"),
        (whole + b"enp6enp6 5000\n", "every rank and token once"),
        (whole + b"YQ== 3000\n", "every rank and token once"),
        (b"YQ== 0\n", "lacks tokens for some of the 256 bytes"),
        (b"", "lacks tokens"),
    ):
        path.write_bytes(broken)
        refuse(match)
